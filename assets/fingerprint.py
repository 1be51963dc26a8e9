"""Fingerprints: what a result is made of, as one hash and as parts that can be compared.

Configuration, code, packages and the fingerprints of the inputs; never where it ran. Which code
counts, and what of it, is said in `olmo_core.run.code`.
"""

import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from assets.paths import CHECKOUT
from olmo_core.errors import listed
from olmo_core.run.accepted import VERSION_LENGTH, Acceptance
from olmo_core.run.code import code_hashes, sources
from olmo_core.run.source import IMPORTS, TOP_LEVEL

ABSENT = object()  # where one of two records has no such key; a null is a value
LOCKS = ("environments/main.txt", "environments/eval-data.txt")


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The identity of a result. `parts` is what `value` hashes: config, code, packages, inputs.

    Where a person has accepted a difference, they are the parts of the older result that counts.
    """

    parts: Mapping[str, Any]
    accepted: Acceptance | None = None

    @functools.cached_property
    def value(self) -> str:
        """SHA-256, in hex, of the canonical JSON of the parts."""
        return sha256_json(self.parts)

    @property
    def version(self) -> str:
        """The name of the run folder: the first 12 characters of the value."""
        return self.value[:VERSION_LENGTH]

    @property
    def code(self) -> Mapping[str, str]:
        """The code's hashes as it stands, accepted or not."""
        return (self.parts if self.accepted is None else self.accepted.new["parts"])["code"]

    def resolve(self, acceptances: Mapping[str, Acceptance]) -> "Fingerprint":
        """Return the older fingerprint that this one is accepted as, else this one."""
        found = acceptances.get(self.value)
        return self if found is None else Fingerprint(parts=found.old["parts"], accepted=found)

    def record(self) -> dict[str, Any]:
        """Return what launch.json keeps: value, parts, and the code's hashes by definition."""
        if self.accepted is not None:
            said = {"who": self.accepted.who, "when": self.accepted.when}
            said |= {"because": self.accepted.because, "new": self.accepted.new["fingerprint"]}
            if self.accepted.proof:
                said |= {"proof": self.accepted.proof}
            return {**self.accepted.old, "accepted": said}
        module = self.parts.get("module")
        code = sources(module) if module else {}
        return {
            "fingerprint": self.value,
            "parts": self.parts,
            "definitions": {name: source.definitions for name, source in code.items()},
        }


def fingerprint(
    *,
    module: str,
    config: Mapping[str, Any],
    packages: tuple[str, ...],
    inputs: Mapping[str, Fingerprint],
) -> Fingerprint:
    """Return the fingerprint of what `python -m module` makes from `config` and `inputs`."""
    return Fingerprint(
        parts={
            "module": module,
            "config": config,
            "code": code_hashes(module),
            "packages": {
                # Syntax trees, and so the code's hashes, are not the same in every Python.
                "python": f"{sys.version_info.major}.{sys.version_info.minor}",
                **{name: package_version(name) for name in sorted(packages)},
            },
            "inputs": {name: inputs[name].value for name in sorted(inputs)},
        }
    )


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON (sorted keys, no blanks)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing in which two records of a fingerprint differ."""

    area: str  # config, code, packages, inputs
    what: str  # dotted key, module, package or input
    old: Any  # or ABSENT
    new: Any
    definitions: tuple[str, ...] = ()  # of code: `function Schedule.at changed`

    @property
    def key(self) -> str:
        """Where it is, as in `config.optimizer.learning_rate`."""
        return f"{self.area}.{self.what}" if self.what else self.area

    def __str__(self) -> str:
        if self.area == "inputs":
            return f"input {self.what} changed"
        if self.area == "code":
            return f"code {self.what}: {listed(self.definitions)}"
        return f"{self.area} {self.what}: {_short(self.old)} → {_short(self.new)}"


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return in what two records of a fingerprint differ, in the order of keys."""
    old, new = dict(flatten(before["parts"])), dict(flatten(after["parts"]))
    found: list[Change] = []
    moved = None
    for key in sorted(old.keys() | new.keys()):
        values = {"old": old.get(key, ABSENT), "new": new.get(key, ABSENT)}
        if len({*map(_text, values.values())}) == 1:  # as it is hashed: 1 is not 1.0
            continue
        area, _, what = key.partition(".")
        definitions: tuple[str, ...] = ()
        if area == "code":
            was, now = (record.get("definitions", {}) for record in (before, after))
            moved = _moved(was, now) if moved is None else moved
            definitions = tuple(_changed_code(what, was.get(what), now.get(what), moved))
        found.append(Change(area=area, what=what, definitions=definitions, **values))
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return how two records of a fingerprint differ, one line per key, as `config.value`."""
    return {change.key: str(change) for change in changes(before, after)}


Moved = Mapping[tuple[str, str], str]  # (module, definition) -> the module where it was or is


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> Moved:
    """Return which definitions stand, letter for letter, in another module than before."""

    def gone(of: Mapping[str, Any], other: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for module, definitions in of.items():
            for name, value in definitions.items():
                if name not in other.get(module, {}) and name not in (TOP_LEVEL, IMPORTS):
                    found.setdefault((name, value), []).append(module)
        return found

    left, come = gone(old, new), gone(new, old)
    moved: dict[tuple[str, str], str] = {}
    for (name, value), places in left.items():
        if len(places) == len(there := come.get((name, value), [])) == 1:
            moved |= {(places[0], name): there[0], (there[0], name): places[0]}
    return moved


def _changed_code(
    module: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None, moved: Moved
) -> Iterator[str]:
    """Yield what differs between two versions of a module, by function and class."""
    if old is None and new is None:
        yield "changed"  # a record of before definitions were kept
        return
    for name in sorted({**(old or {}), **(new or {})}):
        was, now = (old or {}).get(name), (new or {}).get(name)
        other = moved.get((module, name))
        if was == now:
            continue
        if other is not None:
            yield f"{name} moved {'to' if now is None else 'from'} {other}"
        elif old is not None and new is not None:
            yield f"{name} {'added' if was is None else 'removed' if now is None else 'changed'}"
    if old is None or new is None:
        yield "counts now" if old is None else "counts no more"


@functools.cache
def package_version(name: str) -> str:
    """Return the version of a package that jobs run with, without a build label such as `+cpu`.

    It is the installed one; on a machine that only orchestrates, and has no torch, the locked one.
    """
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        for line in [line for lock in LOCKS for line in (CHECKOUT / lock).read_text().splitlines()]:
            pinned, _, version = line.partition("==")
            if pinned == name.replace("_", "-"):
                return version
        raise


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings and lists, each with its dotted key."""
    if value in ({}, []) and "." in prefix:  # a value as any other
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, item in cast(Mapping[Any, Any], value).items():
            # Module names hold dots themselves; they only stand below `code`.
            yield from flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(cast(list[Any], value)):
            yield from flatten(item, f"{prefix}[{index}]")
    else:
        yield prefix, value


def _text(value: Any) -> str:
    return "absent" if value is ABSENT else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 60 else text[:57] + "…"
