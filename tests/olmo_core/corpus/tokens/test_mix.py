from pathlib import Path

import numpy as np
import pytest

from olmo_core.config.load import build
from olmo_core.corpus.tokens import mix
from olmo_core.corpus.tokens.mix import MixConfig, SourceShare, wanted_tokens
from olmo_core.data.instances import Instances
from olmo_core.data.manifest import Manifest
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json


def config(**section: object) -> MixConfig:
    return build(MixConfig, section, where="stage1_mix")


def stream_tokens(manifest: Manifest, root: Path, name: str) -> np.ndarray:
    (stream,) = (stream for stream in manifest.streams if stream.name == name)
    parts = [np.fromfile(root / r.path, "<u2")[r.start : r.stop] for r in stream.ranges]
    return np.concatenate(parts)


def source_tokens(root: Path, name: str) -> np.ndarray:
    files = sorted((root / "tokens" / name).glob("*.npy"))
    return np.concatenate([np.fromfile(path, "<u2") for path in files])


def test_everything_once(tmp_path: Path, tokens_run: Path, run) -> None:
    folder = run(
        mix, tmp_path / "mix", config(sources={"code": {}, "odd": {}}), {"tokens": tokens_run}
    )
    manifest = Manifest.read(folder / "manifest.json", root=tokens_run)
    for name in ("code", "odd"):
        expected = source_tokens(tokens_run, name)
        assert np.array_equal(stream_tokens(manifest, tokens_run, name), expected)
    report = read_json(folder / "result.json")["report"]
    assert report["numbers"]["tokens"] == manifest.tokens
    assert sum(row["share"] for row in report["tables"]["sources"]) == pytest.approx(1, abs=1e-3)
    assert report["data"]["manifest_sha256"] == manifest.sha256
    data = Instances(manifest, sequence_length=64, vocab_size=900)
    assert data.count == sum(stream.tokens // 64 for stream in manifest.streams)


@pytest.mark.parametrize("repetitions", [0.25, 1.0, 2.5, 3.0])
def test_repetitions(tmp_path: Path, tokens_run: Path, run, repetitions: float) -> None:
    sources = {"code": {"repetitions": repetitions}}
    folder = run(mix, tmp_path / "mix", config(sources=sources), {"tokens": tokens_run})
    manifest = Manifest.read(folder / "manifest.json", root=tokens_run)
    once = source_tokens(tokens_run, "code")
    found = stream_tokens(manifest, tokens_run, "code")
    whole = int(repetitions)
    assert np.array_equal(found[: whole * len(once)], np.tile(once, whole))
    longest = np.diff(np.flatnonzero(once == 0)).max()
    assert abs(len(found) - repetitions * len(once)) <= longest / 2 + 1
    assert found[-1] == 0
    for stream in manifest.streams:
        for part in stream.ranges:
            assert np.fromfile(tokens_run / part.path, "<u2")[part.stop - 1] == 0


def test_shares_by_weight_and_size() -> None:
    available = {"a": 1000, "b": 300}
    for section, expected in (
        ({"sources": {"a": {}, "b": {"repetitions": 2}}}, {"a": 1000, "b": 600}),
        ({"sources": {"a": {}, "b": {"repetitions": 2}}, "max_tokens": 800}, {"a": 500, "b": 300}),
        ({"sources": {"a": {}, "b": {}}, "max_tokens": "50e9"}, {"a": 1000, "b": 300}),
        ({"sources": {"a": {"weight": 1}, "b": {"weight": 1}}}, {"a": 300, "b": 300}),
        ({"sources": {"a": {"weight": 3}, "b": {"weight": 1}}}, {"a": 900, "b": 300}),
        (
            {"sources": {"a": {"weight": 3}, "b": {"weight": 1}}, "max_tokens": 4000},
            {"a": 3000, "b": 1000},
        ),
    ):
        assert wanted_tokens(available, config(**section)) == expected


def test_no_source_is_read_more_often_than_it_may_be() -> None:
    available = {"a": 1000, "b": 300}
    weights = {"a": {"weight": 1}, "b": {"weight": 1}}
    section = {"sources": weights, "max_repetitions": 2}
    assert wanted_tokens(available, config(**section)) == {"a": 600, "b": 600}
    with pytest.raises(
        InputError, match=r"b: 750 tokens .* the 300 there are, 2\.50 times .* max_tokens: 1200 is"
    ):
        wanted_tokens(available, config(**section, max_tokens=1500))
    weights["b"]["max_repetitions"] = 3
    assert wanted_tokens(available, config(**section, max_tokens=1500)) == {"a": 750, "b": 750}
    section = {"sources": {"a": {}, "b": {"repetitions": 5}}, "max_repetitions": 4}
    with pytest.raises(
        InputError, match=r"b: 1500 tokens .*5\.00 times each; max_repetitions is 4"
    ):
        wanted_tokens(available, config(**section))
    # What is read counts, not what was asked for before the budget.
    assert sum(wanted_tokens(available, config(**section, max_tokens=1250)).values()) == 1250


def test_the_same_manifest_wherever_it_runs(tmp_path: Path, tokens_run: Path, run) -> None:
    settings = config(sources={"odd": {"repetitions": 1.7}, "code": {}})
    one = run(mix, tmp_path / "one", settings, {"tokens": tokens_run})
    (tmp_path / "moved").symlink_to(tokens_run)
    two = run(mix, tmp_path / "two", settings, {"tokens": tmp_path / "moved"})
    content = (one / "manifest.json").read_bytes()
    assert content == (two / "manifest.json").read_bytes()
    assert str(tmp_path).encode() not in content


def test_bad_mixes(tmp_path: Path, tokens_run: Path, run) -> None:
    with pytest.raises(ConfigError, match="cod: no tokens of such a source; did you mean 'code'"):
        run(mix, tmp_path / "mix", config(sources={"cod": {}}), {"tokens": tokens_run})
    few = config(sources={"code": {"repetitions": 1e-5}})
    with pytest.raises(InputError, match=r"0 is nearest .*the first one has \d+ tokens"):
        run(mix, tmp_path / "mix", few, {"tokens": tokens_run})
    for section, message in (
        ({"sources": {}}, "at least one"),
        ({"sources": {"a": {"weight": 1}, "b": {}}}, "for a only"),
        ({"sources": {"a": {"weight": 1, "repetitions": 2}}}, "expected one of them"),
        ({"sources": {"a": {"repetitions": 0}}}, "leave the source out"),
        ({"sources": {"a": {}}, "max_repetitions": 0}, "max_repetitions: 0.0: expected above 0"),
        (
            {"sources": {"a": {"repetitions": float("inf")}}},
            "repetitions: inf: expected above 0, and",
        ),
        ({"sources": {"a": {"weight": float("nan")}}}, "weight: nan: expected above 0, and finite"),
        ({"sources": {"a": {}}, "max_repetitions": float("inf")}, "max_repetitions: inf: expected"),
        ({"sources": {"a": {}}, "max_tokens": 0}, "expected 1 or more"),
        ({"sources": {"a": {"repetition": 2}}}, "did you mean 'repetitions'"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(**section)
    assert SourceShare() == SourceShare(repetitions=None, weight=None)
