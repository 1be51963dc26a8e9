"""A model's descent in W3C PROV: what was made, by which runs, from what and with what.

A run is an activity, its result an entity; what it read, it `used`. Configuration is a plan; code
and packages (as package URLs) are entities; an engine is a software agent, who accepts a person.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prov.constants import PROV
from prov.model import ProvDocument

from assets.fingerprint import sha256_json
from assets.lineage.ancestors import Ancestor, Input
from assets.lineage.descent import Descent, Missing, Revision
from assets.lineage.prov_records import (
    Attributes,
    Records,
    as_json,
    known,
    moment,
    package_url,
    sha256,
)
from assets.lineage.recorded import Parent, RawFile, ingredient_weights, raw_files, seeds
from olmo_core.run.accepted import Acceptance

SHORT = 12  # digits of a digest in a name
LAUNCHED = ("command_line", "engine", "job_id", "submission", "log")  # of launch.json, as it says
TIMED = ("start_seconds", "work_seconds", "peak_memory_bytes", "device", "attempt")  # of a result
MADE = ("step", "tokens", "documents", "order")  # of what a job has reported


def prov_document(descent: Descent) -> ProvDocument:
    """Return a descent as a PROV document; `serialize()` gives PROV-JSON.

    Raises:
        InputError: a training has left nothing that says what it started from.
    """
    return _Writer(descent).write()


class _Writer:
    """Turns one descent into records."""

    def __init__(self, descent: Descent) -> None:
        self.descent = descent
        self.records = Records(descent.root)
        self.document = self.records.document

    def write(self) -> ProvDocument:
        for missing in self.descent.missing.values():
            self._missing(missing)
        for run in self.descent.runs.values():
            self._result(run)
            self._run(run)
        for path, acceptances in self.descent.accepted.items():
            for acceptance in acceptances:
                self._accepted(self.descent.runs[path], acceptance)
        for revision in self.descent.revisions:
            self._revision(revision)
        return self.document

    def _missing(self, missing: Missing) -> None:
        read = missing.read
        self.records.entity(
            f"result:{self.records.name(read.folder, read.relative)}",
            {
                "prov:label": read.relative,
                "prov:location": read.folder.as_uri(),
                "olmo:asset": read.name,
                "olmo:fingerprint": read.fingerprint,
                "olmo:sha256": read.digest,
                "olmo:missing": "the run folder is gone; what it was made from is not known",
            },
        )

    def _result(self, run: Ancestor) -> None:
        files: Mapping[str, Mapping[str, Any]] = {} if run.result is None else run.result["files"]
        traced = run is self.descent.model and self.descent.step is None
        self.records.entity(
            self._result_name(run),
            {
                "prov:label": run.relative,
                "prov:location": run.run.path.as_uri(),
                "prov:type": PROV["Collection"],
                "olmo:asset": run.asset,
                "olmo:fingerprint": run.record.get("fingerprint"),
                "olmo:sha256": None if run.result is None else run.result["digest"],
                "olmo:files": len(files) or None,
                "olmo:bytes": sum(each["bytes"] for each in files.values()) or None,
                "olmo:model_sha256": run.data.get("model_sha256"),
                "olmo:unfinished": True if run.result is None else None,
                "olmo:traced": True if traced else None,
            },
        )

    def _result_name(self, run: Ancestor) -> str:
        return f"result:{self.records.name(run.run.path, run.relative)}"

    def _run(self, run: Ancestor) -> None:
        result = run.result or {}
        name = f"run:{self.records.name(run.run.path, run.relative)}"
        by_hand = None if run.identity else "started by hand: what it was made from is not recorded"
        self.document.activity(
            name,
            moment(result.get("started", run.launch.get("submitted_at"))),
            moment(result.get("finished")),
            known(
                {
                    "prov:label": run.relative,
                    "prov:location": run.run.path.as_uri(),
                    "olmo:recipe": run.record.get("recipe"),
                    "olmo:module": run.identity.get("module"),
                    "olmo:host": result.get("host") or run.launch.get("host"),
                    **{f"olmo:{key}": run.launch.get(key) for key in LAUNCHED},
                    **{f"olmo:{key}": result.get(key) for key in TIMED},
                    **{f"olmo:{key}": value for key, value in seeds(run).items()},
                    **{f"olmo:{key}": run.data.get(key) for key in MADE},
                    "olmo:unrecorded": by_hand,
                }
            ),
        )
        self.document.wasGeneratedBy(self._result_name(run), name, moment(result.get("finished")))
        self._used(run, name)
        self._made_with(run, name)
        for source, place in [(raw.source, self._raw(raw)) for raw in raw_files(run)]:
            self.document.used(name, place, other_attributes={"prov:role": f"source {source}"})
        for place in dict.fromkeys(map(self._raw, raw_files(run))):  # several sources may read one
            self.document.hadPrimarySource(self._result_name(run), place, name)
        if (parent := self.descent.parent(run)) is not None:
            self._parent(run, name, parent)
        if run is self.descent.model and self.descent.step is not None:
            self._checkpoint(run.run.path, run.relative, self.descent.step, {"traced": True})

    def _used(self, run: Ancestor, name: str) -> None:
        weights = ingredient_weights(run)
        for each in run.inputs:
            read = self._read(run, each)
            self.document.used(name, read, other_attributes={"prov:role": each.name})
            share = {"olmo:weight": weights[each.name]} if each.name in weights else None
            self.document.wasDerivedFrom(self._result_name(run), read, name, other_attributes=share)

    def _read(self, run: Ancestor, each: Input) -> str:
        """Return the entity that was read; not what stands there now, if that has other bits."""
        there = f"result:{self.records.name(each.folder, each.relative)}"
        if (run.run.path, each.name) not in self.descent.changed:
            return there
        read = self.records.entity(
            f"{there}~{each.digest[:SHORT]}",
            {
                "prov:label": each.relative,
                "olmo:sha256": each.digest,
                "olmo:fingerprint": each.fingerprint,
                "olmo:missing": "what was read is gone; other bits stand in its place",
            },
        )
        self.document.alternateOf(read, there)
        return read

    def _made_with(self, run: Ancestor, name: str) -> None:
        """Write configuration, code, packages and engine of a run."""
        plan = None
        if "config" in run.identity:
            digest = sha256_json(run.identity["config"])
            plan = self.records.entity(
                f"config:{digest[:SHORT]}",
                {
                    "prov:type": PROV["Plan"],
                    "prov:value": as_json(run.identity["config"]),
                    "olmo:sha256": digest,
                },
            )
        engine = str(run.launch.get("engine", "by hand"))
        agent = f"engine:{quote(engine, safe='')}"
        self.records.agent(agent, PROV["SoftwareAgent"], engine)
        self.document.wasAssociatedWith(name, agent, plan)
        for entity, role in (
            *((code, "code") for code in self._code(run)),
            *((package, "package") for package in self._packages(run)),
        ):
            self.document.used(name, entity, other_attributes={"prov:role": role})

    def _code(self, run: Ancestor) -> list[str]:
        """Write the commit with its changes, and the hashes of the modules that bear identity."""
        found: list[str] = []
        if state := run.launch.get("code"):
            diff = state["diff"]
            changes = f"+{sha256(diff)[:SHORT]}" if diff else ""
            attributes: Attributes = {
                "olmo:commit": state["commit"],
                "olmo:dirty": state["dirty"],
                "olmo:diff": diff or None,
                "olmo:diff_truncated": state["diff_truncated"] or None,
            }
            found.append(self.records.entity(f"code:{state['commit']}{changes}", attributes))
        if modules := run.identity.get("code"):
            attributes = {"prov:value": as_json(modules), "olmo:module": run.identity["module"]}
            found.append(self.records.entity(f"code:{sha256_json(modules)[:SHORT]}", attributes))
        return found

    def _packages(self, run: Ancestor) -> list[str]:
        versions: Mapping[str, str] = {
            **run.identity.get("packages", {}),
            **run.launch.get("versions", {}),
        }
        return [
            self.records.entity(package_url(name, version), {"prov:label": f"{name} {version}"})
            for name, version in versions.items()
        ]

    def _raw(self, raw: RawFile) -> str:
        known = raw.place.startswith("pkg:")
        name = raw.place if known else f"raw:{quote(raw.source)}/{quote(raw.place, safe='/')}"
        return self.records.entity(
            f"pkg:{quote(name.removeprefix('pkg:'), safe='/@')}" if known else name,
            {
                "prov:label": raw.place,
                "prov:location": None if known else raw.place,
                "olmo:bytes": raw.bytes,
                "olmo:sha256": raw.sha256,
                "olmo:parts_sha256": raw.parts_sha256,
                "olmo:lists_what_is_read": True if raw.is_list else None,
            },
        )

    def _checkpoint(self, folder: Path, relative: str, step: int, facts: Mapping[str, Any]) -> str:
        """Write a checkpoint once; its run has generated it, as far as that is here."""
        run = self.records.name(folder, relative)
        name = f"checkpoint:{run}@step{step}"
        if not self.records.has(name) and folder in self.descent.runs:
            self.document.wasGeneratedBy(name, f"run:{run}")
        attributes = {f"olmo:{key}": value for key, value in facts.items()}
        label = f"{relative}@step{step}"
        return self.records.entity(name, {"prov:label": label, "olmo:step": step, **attributes})

    def _parent(self, run: Ancestor, name: str, parent: Parent) -> None:
        if parent.source is None:
            attributes = {f"olmo:{key}": value for key, value in parent.digests.items()}
            started = self.records.entity(
                f"raw:weights/{quote(parent.place, safe='/')}",
                {"prov:location": parent.place, "olmo:step": parent.step, **attributes},
            )
        else:
            source = parent.source
            assert parent.step is not None  # a run's checkpoint has one
            started = self._checkpoint(source.folder, source.relative, parent.step, parent.digests)
        self.document.used(name, started, other_attributes={"prov:role": "first weights"})
        self.document.wasDerivedFrom(self._result_name(run), started, name)

    def _accepted(self, run: Ancestor, acceptance: Acceptance) -> None:
        new = acceptance.new["fingerprint"]
        would_be = self.records.entity(
            f"result:{quote(acceptance.recipe)}/{acceptance.asset}/{new[:SHORT]}~accepted",
            {"olmo:fingerprint": new, "olmo:never_made": "accepted as the older result"},
        )
        person = f"person:{quote(acceptance.who, safe='')}"
        activity = f"acceptance:{new[:SHORT]}"
        self.records.agent(person, PROV["Person"], acceptance.who)
        said = {
            "olmo:because": acceptance.because,
            "olmo:differences": acceptance.differences,
            "olmo:proof": acceptance.proof or None,
        }
        self.document.activity(activity, None, acceptance.when, known(said))
        self.document.wasAssociatedWith(activity, person)
        self.document.used(activity, self._result_name(run))
        self.document.wasGeneratedBy(would_be, activity)
        self.document.alternateOf(would_be, self._result_name(run))

    def _revision(self, revision: Revision) -> None:
        model = self.descent.model
        entity = self.records.entity(
            f"revision:{quote(revision.name)}",
            {
                "prov:label": revision.name,
                "prov:location": revision.folder.as_uri(),
                "olmo:sha256": revision.sha256,
            },
        )
        if revision.export.run.path == model.run.path:
            self.document.hadMember(self._result_name(model), entity)
        else:
            self.document.wasDerivedFrom(entity, self._result_name(model))
