"""Asset `decontaminated`, the rule on what it says, and the check that nothing is left."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assets.corpus.checks import no_evaluation_text
from olmo_core.corpus.duplicates import decontaminated
from olmo_core.corpus.duplicates.decontaminated import (
    DecontaminatedConfig,
    evaluation_identity,
    evaluation_texts,
    write_index,
)
from olmo_core.corpus.filters.names import EVALUATION_COVERED
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals.task_rows import questions
from olmo_core.files import write_json
from olmo_core.run.job import Job

HELD = "A held-out text of a dozen words or so that nobody should ever train on."
OF_A_FOLDER = "Another text lies in a folder, laid out as Paloma's domains are, by people."
CLEAN = "Some text that has nothing to do with what models are evaluated on anywhere here."


@pytest.fixture
def spoilt(corpus: Any, tmp_path: Path) -> Any:
    """Documents that hold evaluation texts, and the folder that some of them come from."""
    question = next(text for text in questions("arc_easy") if len(text.split()) > 20)
    corpus.write_held_out(
        {
            "prose": {
                "clean": CLEAN,
                "whole": f"{CLEAN}\n\n> {HELD.upper()}\n\n{CLEAN}",
                "asked": f"{CLEAN} {question} {CLEAN}",
                "folder": OF_A_FOLDER.replace(" ", "\n* "),
            },
            "lists": {"whole": HELD},
        },
        prose=[HELD],
    )
    rows = [{"text": OF_A_FOLDER}]
    corpus.write_lines(tmp_path / "paloma" / "c4_en" / "val" / "val_0.jsonl.gz", rows)
    corpus.config = {"folders": (str(tmp_path / "paloma"),), "tasks": ("arc_easy",)}
    return corpus


def test_every_kind_of_evaluation_text_is_found(spoilt: Any) -> None:
    result = spoilt.run("decontaminated", spoilt.config)
    marks = spoilt.attributes("decontaminated", "evaluation")
    shares = {name: (m[EVALUATION_COVERED] or [[0, 0, 0.0]])[0][2] for name, m in marks.items()}
    assert shares == {
        "prose/clean": 0.0,
        "prose/whole": 1.0,
        "prose/asked": 1.0,
        "prose/folder": 1.0,
        "lists/whole": 1.0,
    }
    tables = result["report"]["tables"]
    found = {row["set"]: row["found"] for row in tables["evaluation texts"]}
    assert found == {"held_out/prose": 1, "c4_en": 1, "arc_easy": 1}
    by_source = {row["source"]: row["with_evaluation_text"] for row in tables["sources"]}
    assert by_source == {"lists": 1, "prose": 3}
    assert any(
        "100% of a text of c4_en in prose/folder" in s for s in result["report"]["samples"]["found"]
    )


def test_a_set_may_come_in_parts_and_stay_one(corpus: Any, tmp_path: Path) -> None:
    """Two folders have texts of one set, another's between them; one is found in two documents."""
    texts = {
        "one": {"c4_en": [OF_A_FOLDER], "books": ["Too short.", CLEAN]},
        "two": {"c4_en": [HELD, f"{CLEAN} {HELD}"], "arc_easy": [CLEAN.upper()]},
    }
    for folder, sets in texts.items():
        for name, rows in sets.items():
            path = tmp_path / folder / name / "val.jsonl.gz"
            corpus.write_lines(path, [{"text": row} for row in rows])
    half = " ".join(CLEAN.split()[:13])
    shared = {"half": f"{half}.", "held": f"{HELD} {half}", "again": HELD, "none": "No text."}
    corpus.write_held_out(
        {"prose": shared}, other=["Nothing that any document holds, anywhere at all."]
    )
    config = {"folders": (str(tmp_path / "one"), str(tmp_path / "two")), "run_words": 12}
    report = corpus.run("decontaminated", config)["report"]
    rows = {row.pop("set"): tuple(row.values()) for row in report["tables"]["evaluation texts"]}
    assert rows == {  # texts, too short, found, whole
        "held_out/other": (1, 0, 0, 0),
        "books": (2, 1, 1, 0),
        "c4_en": (3, 0, 2, 1),
        "arc_easy": (1, 0, 1, 0),
    }
    samples = report["samples"]["found"]
    assert [sample.split("\n")[0] for sample in samples[:3]] == [
        "100% of a text of c4_en in prose/held",
        "100% of a text of c4_en in prose/again",
        "94% of a text of c4_en in prose/held",  # 29 of 31 words
    ]


def test_other_texts_in_a_folder_are_looked_for_by_a_job_that_goes_on(
    spoilt: Any, tmp_path: Path
) -> None:
    config = DecontaminatedConfig(folders=(str(tmp_path / "paloma"),))
    found: list[int | float | str] = []
    for text in (OF_A_FOLDER, CLEAN):
        rows = [{"text": text}]
        spoilt.write_lines(tmp_path / "paloma" / "c4_en" / "val" / "val_0.jsonl.gz", rows)
        with Job.open(spoilt.folder("decontaminated")) as job:
            inputs = {"held_out": spoilt.folder("held_out")}
            report = decontaminated.make(config, inputs, job)
            found.append(report.tables["sources"][-1]["with_evaluation_text"])
    assert found == [2, 3]


def test_the_result_does_not_depend_on_the_number_of_processes(spoilt: Any) -> None:
    digests = [
        spoilt.run("decontaminated", spoilt.config, processes=processes)["digest"]
        for processes in (1, 2)
    ]
    assert digests[0] == digests[1]


def test_a_rule_drops_what_was_found_and_the_check_sees_what_is_left(spoilt: Any) -> None:
    spoilt.run("decontaminated", spoilt.config)
    for asset, experiment in (("tagged", "tags"), ("deduplicated", "duplicates")):
        for source, names in (
            ("lists", ["whole"]),
            ("prose", ["clean", "whole", "asked", "folder"]),
        ):
            folder = spoilt.folder(asset) / "attributes" / experiment / source
            rows = [{"id": f"{source}/{name}", "attributes": {}} for name in names]
            spoilt.write_lines(folder / "part-00000.jsonl.gz", rows)
        write_json(spoilt.folder(asset) / "result.json", {"digest": "of no attributes"})
    rule = {"name": "evaluated", "attribute": EVALUATION_COVERED, "above": 0.5}
    result = spoilt.run(
        "filtered",
        {"rules": {"prose": [rule], "lists": []}, "min_kept_share": {"prose": 0.1, "lists": 0.1}},
    )
    assert [row["id"] for row in spoilt.documents("filtered")] == ["lists/whole", "prose/clean"]
    data = result["report"]["data"]
    for unchecked, passed in (([], False), (["lists"], True)):
        finished: Any = SimpleNamespace(data=data)
        verdict = no_evaluation_text(0.8, unchecked).evaluate(finished)
        assert verdict.passed == passed, verdict
        assert ("lists/whole holds 100% of one" in verdict.description) != passed


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    for folder in (str(tmp_path), "${NO_SUCH_VARIABLE}/paloma"):
        with pytest.raises(ConfigError, match="expected a folder with"):
            evaluation_identity(DecontaminatedConfig(folders=(folder,)))


def test_where_nothing_is_held_out_the_other_texts_are_looked_for(
    spoilt: Any, tmp_path: Path
) -> None:
    folders = (str(tmp_path / "paloma"),)
    nowhere = tmp_path / "no paloma"
    found = list(evaluation_texts(DecontaminatedConfig(folders=folders), nowhere))
    assert found == [("c4_en", OF_A_FOLDER)]
    with pytest.raises(InputError, match=r"no evaluation text: nothing is held out"):
        write_index(DecontaminatedConfig(), nowhere, tmp_path / "index")
