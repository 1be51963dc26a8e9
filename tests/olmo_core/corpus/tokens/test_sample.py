"""Samples of sources whose documents are known, against the documents themselves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from olmo_core.corpus.tokens import mix
from olmo_core.corpus.tokens.mix import MixConfig, SourceShare
from olmo_core.corpus.tokens.sample import STRETCHES, SourceTokens, sample
from olmo_core.data.format import Header, header_path, open_token_file
from olmo_core.files import read_json, write_json

EOS = 7


def write_source(root: Path, name: str, files: Sequence[Sequence[int]]) -> SourceTokens:
    """Write token files of documents of these lengths, EOS included; return the source."""
    opened = []
    for number, lengths in enumerate(files):
        ids = np.zeros(sum(lengths), "<u2")
        ids[np.cumsum(lengths) - 1] = EOS
        path = root / "tokens" / name / f"part-0-{number:05d}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        ids.tofile(path)
        header = Header(
            dtype="uint16",
            tokens=len(ids),
            documents=len(lengths),
            vocab_size=8,
            tokenizer_sha256="ab" * 32,
            eos_token_id=EOS,
        )
        write_json(header_path(path), header.to_dict())
        opened.append(open_token_file(path))
    return SourceTokens(opened)


def chosen(files: Sequence[Sequence[int]], stretches: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return which documents the stretches hold; fails where they hold a part of one."""
    ends = np.cumsum([length for lengths in files for length in lengths])
    held = np.zeros(len(ends), dtype=bool)
    for start, stop in stretches:
        assert stop in ends
        assert start == 0 or start in ends
        inside = (ends > start) & (ends <= stop)
        assert not (held & inside).any()
        held |= inside
    return held


@pytest.mark.parametrize("spread", [1, 20, 3000, 100_000])
@pytest.mark.parametrize("share", [0.0501, 0.3, 0.77, 0.999])
def test_a_sample_is_whole_documents_and_as_many_tokens_as_wanted(
    tmp_path: Path, spread: int, share: float
) -> None:
    rng = np.random.default_rng(spread)
    files = [rng.integers(1, spread + 1, 40).tolist() for _ in range(5)]
    source = write_source(tmp_path, "s", files)
    wanted = max(1, round(source.tokens * share))
    stretches = sample(source, wanted)
    held = chosen(files, stretches)
    lengths = np.concatenate(files)
    assert lengths[held].sum() == sum(stop - start for start, stop in stretches)
    assert abs(int(lengths[held].sum()) - wanted) <= max(lengths) / 2
    assert stretches == sample(source, wanted)


def test_a_sample_lies_all_over_the_source_and_takes_long_documents_as_often(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    files = [rng.choice([20, 400], 4000).tolist() for _ in range(5)]
    source = write_source(tmp_path, "s", files)
    stretches = sample(source, source.tokens // 5)
    assert len(stretches) <= STRETCHES + 1
    held, lengths = chosen(files, stretches), np.concatenate(files)
    # 5 stretches of 16 documents in a tenth of the source are 10 standard deviations from none.
    for part in np.array_split(held, 10):
        assert 0.1 < part.mean() < 0.3
    assert held[lengths == 20].mean() == pytest.approx(0.2, abs=0.02)
    assert held[lengths == 400].mean() == pytest.approx(0.2, abs=0.02)


def test_ends_of_documents_against_a_walk(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    files = [[300_000, 5, 90_000], [1], [2, 70_000, 9000]]
    source = write_source(tmp_path, "s", files)
    ends = np.cumsum([0, *(length for lengths in files for length in lengths)])
    for place in [*rng.integers(0, source.tokens, 200).tolist(), *ends[:-1].tolist()]:
        assert source.end_before(place) == ends[ends <= place].max()
        assert source.end_after(place) == ends[ends > place].min()


@pytest.mark.parametrize(
    ("files", "repetitions", "realised"),
    [
        ([[1000] * 5] * 20, 0.3, 30_000),
        ([[1000] * 5] * 20, 0.1, 10_000),
        ([[1000] * 5] * 20, 2.1, 210_000),
        ([[90_000]] * 3, 0.5, 90_000),  # as near as 180,000
        ([[90_000]] * 3, 0.6, 180_000),
        ([[90_000] * 3], 0.6, 180_000),
    ],
)
def test_mixes_of_few_documents(
    tmp_path: Path, run, files: list[list[int]], repetitions: float, realised: int
) -> None:
    write_source(tmp_path, "s", files)
    config = MixConfig(sources={"s": SourceShare(repetitions=repetitions)})
    folder = run(mix, tmp_path / "mix", config, {"tokens": tmp_path})
    (row,) = read_json(folder / "result.json")["report"]["tables"]["sources"]
    available = sum(map(sum, files))
    assert row["tokens"] == realised
    assert row["planned_tokens"] == round(available * repetitions)
    assert row["repetitions"] == round(realised / available, 4)
