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


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return how two records of a fingerprint differ, one line per key, as `config.value`."""
    old, new = dict(_flatten(before["parts"])), dict(_flatten(after["parts"]))
    lines: dict[str, str] = {}
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        area, _, rest = key.partition(".")
        if area == "inputs":
            lines[key] = f"input {rest} changed"
        elif area == "code":
            was, now = (record.get("definitions", {}).get(rest) for record in (before, after))
            lines[key] = f"code {rest}: {_changed_code(was, now)}"
        else:
            lines[key] = f"{area} {rest}: {_show(old, key)} → {_show(new, key)}"
    return lines


def _changed_code(old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> str:
    """Return what differs between two versions of a module, by function and class."""
    if old is None or new is None:
        return "counts now" if old is None else "counts no more"
    return listed(
        f"{name} {'added' if name not in old else 'removed' if name not in new else 'changed'}"
        for name in old.keys() | new.keys()
        if old.get(name) != new.get(name)
    )


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


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[Any, Any], value).items():
            # Module names hold dots themselves; they only stand below `code`.
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(cast(list[Any], value)):
            yield from _flatten(item, f"{prefix}[{index}]")
    else:
        yield prefix, value


def _show(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "absent"
    text = json.dumps(values[key], ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
