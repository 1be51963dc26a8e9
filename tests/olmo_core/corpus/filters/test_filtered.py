"""Asset `filtered`: what stays is what the rules say, in dolma's jq as in ours."""

import gzip
import shutil
from typing import Any

import pytest

from olmo_core.config.load import build
from olmo_core.corpus.filters import filtered, mixing
from olmo_core.corpus.filters.filtered import FilteredConfig
from olmo_core.corpus.filters.rules import Rule
from olmo_core.corpus.toolkit import ToolkitError
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import write_json

# document -> its attributes; by hand, so that each rule has a document on either side of its bound
TEXT = "x" * 100
PROSE: dict[str, dict[str, Any]] = {
    "kept": {"tags__t__words": [[0, 100, 50]], "tags__t__lines": [[0, 20, 1]]},
    "few": {"tags__t__words": [[0, 100, 49]], "tags__t__lines": []},
    "no-score": {"tags__t__lines": []},
    "share": {"tags__t__words": [[0, 100, 99]], "tags__t__lines": [[0, 20, 1], [50, 51, 1]]},
    "score-0": {"tags__t__words": [[0, 100, 99]], "tags__t__lines": [[0, 100, 0]]},
    "spans": {"tags__t__words": [[0, 100, 99]], "tags__t__marks": [[0, 1, 1]] * 3},
    "both": {"tags__t__words": [[0, 100, 1]], "tags__t__marks": [[0, 1, 1]] * 3},
    "copy": {"tags__t__words": [[0, 100, 99]]},
}
RULES = [
    {"name": "copy", "attribute": "duplicates__text", "above": 0},
    {"name": "few_words", "attribute": "tags__t__words", "below": 50},
    {"name": "lines", "attribute": "tags__t__lines", "measure": "share", "above": 0.2},
    {"name": "marks", "attribute": "tags__t__marks", "measure": "spans", "above": 2},
]
CONFIG = {
    "rules": {"prose": RULES, "open": []},
    "min_kept_share": {"prose": 0.1, "open": 1.0},
}


@pytest.fixture
def judged(corpus: Any) -> Any:
    """Documents, tags and duplicates by hand, in two sources."""
    # The umlaut: lengths are characters for both, not bytes.
    texts = {name: TEXT[:-1] + "ü" for name in PROSE}
    corpus.write_held_out({"prose": texts, "open": {"1": "Anything at all.", "2": "And this."}})
    for asset, experiment in (("tagged", "tags"), ("deduplicated", "duplicates")):
        write_json(corpus.folder(asset) / "result.json", {"digest": f"of {asset}"})
        for source, names in (("prose", list(PROSE)), ("open", ["1", "2"])):
            rows: list[dict[str, Any]] = []
            for name in names:
                copied = [[0, 100, 1]] if name == "copy" else []
                mine = PROSE.get(name, {}) if asset == "tagged" else {"duplicates__text": copied}
                rows.append({"id": f"{source}/{name}", "attributes": mine})
            folder = corpus.folder(asset) / "attributes" / experiment / source
            corpus.write_lines(folder / "part-00000.jsonl.gz", rows)
    return corpus


def test_documents_stay_or_go_as_worked_out_by_hand(judged: Any) -> None:
    result = judged.run("filtered", CONFIG)
    kept = [row["id"] for row in judged.documents("filtered")]
    assert kept == ["open/1", "open/2", "prose/kept", "prose/score-0"]
    before = {row["id"]: row for row in judged.documents("held_out")}
    assert all(row == before[row["id"]] for row in judged.documents("filtered"))
    report = result["report"]
    assert report["numbers"]["dropped"] == 6
    table = {row["rule"]: row for row in report["tables"]["dropped by rule"]}
    assert {name: (row["dropped"], row["matched"]) for name, row in table.items()} == {
        "copy": (1, 1),
        "few_words": (3, 3),
        "lines": (1, 1),
        "marks": (1, 2),
    }
    assert len(report["samples"]["dropped"]) == 4
    sources = {row["source"]: row for row in report["tables"]["sources"]}
    assert sources["prose"]["dropped_bytes"] == 6 * 101
    words = {name: (row["kept_words"], row["dropped_words"]) for name, row in sources.items()}
    assert words == {"prose": (2, 6), "open": (5, 0)}
    assert report["numbers"]["kept_words"] == 7
    [path] = (judged.folder("filtered") / "dropped").rglob("*.jsonl.gz")
    rows = judged.read_lines(path)
    assert [(row["id"], row["reason"], row["loc"]) for row in rows] == [
        ("prose/few", "few_words", 2),
        ("prose/no-score", "few_words", 3),
        ("prose/share", "lines", 4),
        ("prose/spans", "marks", 6),
        ("prose/both", "few_words", 7),
        ("prose/copy", "copy", 8),
    ]
    assert {(row["src"], row["characters"], row["text_bytes"]) for row in rows} == {
        ("documents/prose/part-00000.jsonl.gz", 100, 101)
    }
    assert (sources["prose"]["kept"], sources["open"]["kept"]) == (2, 2)


def test_chunks_and_processes_change_no_document(
    judged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files of a source and one of the other: in one chunk, in three, by two processes."""
    for asset, kind in (("held_out", ""), ("tagged", "tags"), ("deduplicated", "duplicates")):
        folder = judged.folder(asset) / ("attributes" if kind else "documents") / kind / "prose"
        rows = judged.read_lines(folder / "part-00000.jsonl.gz")
        judged.write_lines(folder / "part-00000.jsonl.gz", rows[:3])
        judged.write_lines(folder / "part-00001.jsonl.gz", rows[3:])
    whole = judged.run("filtered", CONFIG)
    kept = judged.documents("filtered")
    monkeypatch.setattr(filtered, "CHUNK_BYTES", 1)
    seen = []
    for processes in (1, 2):
        shutil.rmtree(judged.folder("filtered"))
        result = judged.run("filtered", CONFIG, processes=processes)
        assert result["report"] == whole["report"]
        assert judged.documents("filtered") == kept
        files = sorted((judged.folder("filtered") / "documents").rglob("*.gz"))
        seen.append([(path.name, path.read_bytes()) for path in files])
    names = [name for name, _ in seen[0]]
    assert names == ["part-00000.jsonl.gz", "part-00000.jsonl.gz", "part-00001.jsonl.gz"]
    assert seen[0] == seen[1]


def test_spans_are_replaced_as_worked_out_by_hand(judged: Any) -> None:
    """Characters, not bytes; spans that overlap or are empty, which the mixer alone misplaces."""
    texts = ["Ä: me@x.org, or you@y.org.", "a\nb\nc\n", "all of it", "as it was"]
    spans = [
        {"MAIL": [[3, 11, 1], [5, 8, 1], [16, 25, 1]], "LINE": []},
        {"MAIL": [[0, 0, 1]], "LINE": [[2, 4, 1], [4, 6, 0.2]]},
        {"MAIL": [], "LINE": [[0, 9, 1]]},
        {"MAIL": [], "LINE": []},
    ]
    names = [f"prose/{n}" for n in range(len(texts))]
    times = dict.fromkeys(("added", "created"), "2024-01-01T00:00:00.000Z")
    rows = [
        {"id": name, "text": text, "source": "prose", **times, "metadata": {}}
        for name, text in zip(names, texts, strict=True)
    ]
    part = "prose/part-00000.jsonl.gz"
    judged.write_lines(judged.folder("held_out") / "documents" / part, rows)
    for asset, experiment, found in (
        ("tagged", "tags", spans),
        ("deduplicated", "duplicates", [{"MAIL": []}] * len(texts)),
    ):
        marks = [
            {
                "id": name,
                "attributes": {f"{experiment}__t__{key}": value for key, value in each.items()},
            }
            for name, each in zip(names, found, strict=True)
        ]
        judged.write_lines(judged.folder(asset) / "attributes" / experiment / part, marks)
    replacements = [
        {"name": "mail", "attribute": "tags__t__MAIL", "replacement": "<{}>"},
        {"name": "line", "attribute": "tags__t__LINE", "replacement": ""},
    ]
    config = {
        "rules": {"prose": [], "open": []},
        "replacements": {"prose": replacements},
        "min_kept_share": {"prose": 0.1, "open": 1.0},
    }
    report = judged.run("filtered", config)["report"]
    kept = {row["id"]: row["text"] for row in judged.documents("filtered")}
    assert {name: kept[name] for name in kept if name.startswith("prose")} == {
        "prose/0": "Ä: <me@x.org>, or <you@y.org>.",
        "prose/1": "a\nc\n",
        "prose/3": "as it was",
    }
    assert report["tables"]["replaced spans"] == [
        {"source": "prose", "replacement": "line", "spans": 1},
        {"source": "prose", "replacement": "mail", "spans": 2},
    ]
    reasons = {row["rule"]: row["dropped"] for row in report["tables"]["dropped by rule"]}
    assert reasons == {"left blank": 1}


def test_a_replacement_may_have_any_name(judged: Any) -> None:
    """That of what a rule judges, whose three spans are one for the mixer; beyond ASCII."""
    replacements = [
        {"name": "tags__t__marks", "attribute": "tags__t__marks", "replacement": "M"},
        {"name": "größe", "attribute": "tags__t__lines", "replacement": "{}L"},
    ]
    report = judged.run("filtered", CONFIG | {"replacements": {"prose": replacements}})["report"]
    kept = {row["id"]: row["text"] for row in judged.documents("filtered")}
    assert list(kept) == ["open/1", "open/2", "prose/kept", "prose/score-0"]
    assert kept["prose/kept"] == "x" * 20 + "L" + "x" * 79 + "ü"
    assert report["tables"]["replaced spans"] == [
        {"source": "prose", "replacement": "größe", "spans": 1}
    ]


def test_a_replacement_that_the_mixer_takes_for_a_path_is_refused(judged: Any) -> None:
    path = [{"name": "mail", "attribute": "tags__t__marks", "replacement": "$MAIL$"}]
    with pytest.raises(ConfigError, match=r"replacement mail: replacement '\$MAIL\$': begins with"):
        judged.run("filtered", CONFIG | {"replacements": {"prose": path}})


def test_a_replacement_needs_an_attribute_that_is_there(judged: Any) -> None:
    wrong = [{"name": "mail", "attribute": "tags__pii__EMAIL", "replacement": "x"}]
    with pytest.raises(ConfigError, match="prose: mail: no document has an attribute of"):
        judged.run("filtered", CONFIG | {"replacements": {"prose": wrong}})


def test_metadata_is_a_users_to_the_digit(judged: Any) -> None:
    path = judged.folder("held_out") / "documents" / "open" / "part-00000.jsonl.gz"
    mine = {"provenance": {"by": "me"}, "large": [2**64, -(2**70)], "name": "\r"}
    rows = [row | {"metadata": mine} for row in judged.read_lines(path)]
    judged.write_lines(path, rows)
    judged.run("filtered", CONFIG)
    assert [r for r in judged.documents("filtered") if r["source"] == "open"] == rows


def test_a_verdict_that_dolma_does_not_share_is_an_error(
    judged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rule, "jq", lambda self: ".attributes.no_such_name > 0")
    with pytest.raises(ToolkitError, match=r"dolma kept 'prose/few'; the rules .* 'prose/score-0'"):
        judged.run("filtered", CONFIG)
    monkeypatch.setattr(Rule, "jq", lambda self: "true")
    with pytest.raises(ToolkitError, match=r"dolma dropped 'prose/kept'; the rules of prose keep"):
        judged.run("filtered", CONFIG)


def test_a_source_may_not_be_emptied(judged: Any) -> None:
    config = CONFIG | {"min_kept_share": {"prose": 0.5, "open": 1.0}}
    message = r"prose keeps 2 of 8 documents \(0\.250\); expected at least min_kept_share 0\.5"
    with pytest.raises(InputError, match=message):
        judged.run("filtered", config)
    assert not (judged.folder("filtered") / "documents").exists()


def test_rules_that_drop_nothing_are_a_mistake_unless_allowed(judged: Any) -> None:
    never = [{"name": "never", "attribute": "tags__t__words", "above": 1000}]
    config = CONFIG | {"rules": {"prose": never, "open": []}}
    with pytest.raises(InputError, match="no rule dropped any document"):
        judged.run("filtered", config)
    result = judged.run("filtered", config | {"may_drop_nothing": True})
    assert result["report"]["numbers"]["kept"] == 10


def test_a_rule_on_an_attribute_that_nothing_wrote_is_refused(judged: Any) -> None:
    wrong = [{"name": "wrong", "attribute": "tags__gopher_v2__word_count", "below": 10}]
    with pytest.raises(ConfigError, match="no document has an attribute of 'tags__gopher_v2'"):
        judged.run("filtered", CONFIG | {"rules": {"prose": wrong, "open": []}})


def test_damaged_inputs_are_named(judged: Any) -> None:
    path = judged.folder("deduplicated") / "attributes" / "duplicates" / "prose"
    path /= "part-00000.jsonl.gz"
    rows = judged.read_lines(path)
    judged.write_lines(path, rows[:-1])  # the mixer would only warn
    with pytest.raises(ToolkitError, match=r"part-00000\.jsonl\.gz:8: found no row; expected id"):
        judged.run("filtered", CONFIG)
    judged.write_lines(path, rows)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="truncated"):
        judged.run("filtered", CONFIG)
    judged.write_lines(path, rows)
    documents = judged.folder("held_out") / "documents" / "prose" / "part-00000.jsonl.gz"
    with documents.open("ab") as packed:
        packed.write(gzip.compress(b'{"id": "prose/9"\n'))
    with pytest.raises(InputError, match=r"part-00000\.jsonl\.gz:9: not valid JSON"):
        judged.run("filtered", CONFIG)


def test_what_the_mixer_loses_is_found(judged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixer's own output cut short, as by a full disk that it did not notice."""
    real = mixing.run_steps

    def cut(stages: Any, folder: Any, **options: Any) -> None:
        real(stages, folder, **options)
        for path in (folder / "mixed" / "open").rglob("*.gz"):
            path.write_bytes(path.read_bytes()[:-9])

    monkeypatch.setattr(mixing, "run_steps", cut)
    with pytest.raises(ToolkitError, match=r"left a damaged file .*mixed.*truncated"):
        judged.run("filtered", CONFIG)
    assert not (judged.folder("filtered") / "result.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_kept_share": {"prose": 0.1}}, "expected the same sources"),
        ({"min_kept_share": {"prose": 0.0, "open": 1.0}}, "prose: 0.0: expected 0 < x <= 1"),
        ({"rules": {"prose": [RULES[0], RULES[0]], "open": []}}, r"prose: \['copy'\] given twice"),
        ({"replacements": {"verse": []}}, r"replacements: names \['verse'\]; expected some of"),
        (
            {"replacements": {"prose": [{"name": "a b", "attribute": "x", "replacement": ""}]}},
            "replacement a b: its name: attribute 'a b': expected a name",
        ),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(FilteredConfig, CONFIG | changes, where="filtered")
