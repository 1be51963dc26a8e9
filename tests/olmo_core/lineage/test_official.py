"""A training of others against a replica of OLMo's loader: memory-mapped files, all indices, ranks.

The replica knows nothing of the code under test: it joins the files as OLMo's `MemMapDataset` does,
shuffles as its `IterableDataset` does, strides over ranks, and finds documents token by token.
"""

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.official import open_official
from olmo_core.lineage.official_documents import (
    documents_of_official_step,
    steps_of_official_document,
)
from pipelines.cli.main import app
from tests.olmo_core.config.test_train import OFFICIAL
from tests.olmo_core.file_server import FileServer, serving

LENGTH, BATCH, SEED = 16, 6, 34521
SIZES = {"dclm/a": 1000, "dclm/b": 515, "wiki/c": 333, "web/d": 777}  # tokens; d has no rows
LISTED = ("dclm/a", "wiki/c", "dclm/b", "web/d", "wiki/c")  # c twice, as in OLMo 2's own lists


def write_tokens(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for name, tokens in SIZES.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng.integers(1, 900, tokens).astype("<u4").tofile(path)
        if name == "web/d":
            continue
        ends = [*np.cumsum(rng.integers(3, 60, 400)).tolist()]
        ends = [end for end in ends if end < tokens] + [tokens]
        with gzip.open(path.with_suffix(".csv.gz"), "wt", newline="") as out:
            csv.writer(out).writerows(
                (start, end, "" if n == 1 else f"{name}-{n},\n", "s3://x/y.gz", n + 1)
                for n, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
            )


def write_config(path: Path, base: str, **changes: Any) -> Path:
    content = yaml.safe_load(OFFICIAL)
    content["data"] |= {"paths": [f"{base}/{name}.npy" for name in LISTED], "seed": SEED}
    content["model"]["max_sequence_length"] = LENGTH
    content |= {"global_train_batch_size": BATCH, "max_duration": "3ep", "stop_at": None} | changes
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_tokens(tmp_path / "data")
    return write_config(tmp_path / "official.yaml", "s3://nowhere/data")


class Replica:
    """OLMo's data order, as its own code goes about it."""

    def __init__(self, folder: Path, ranks: int = 3) -> None:
        self.windows: list[tuple[str, int]] = []  # of each index: file and first token
        self.folder = folder
        for name in LISTED:
            size = (folder / f"{name}.npy").stat().st_size // (4 * LENGTH)
            self.windows += [(name, n * LENGTH) for n in range(size)]
        self.ranks = ranks

    def steps(self, epoch: int) -> list[list[int]]:
        """The indices of each global batch, gathered from the ranks' own batches."""
        indices = np.arange(len(self.windows), dtype=np.uint32)
        np.random.Generator(np.random.PCG64(seed=SEED + epoch)).shuffle(indices)
        total = self.ranks * (len(indices) // self.ranks)  # drop_last
        indices = indices[:total]
        mine = BATCH // self.ranks
        per_rank = [indices[rank :: self.ranks] for rank in range(self.ranks)]
        steps = min(len(each) for each in per_rank) // mine
        return [
            # instance i of the global batch is with rank i mod ranks
            np.stack([each[s * mine : (s + 1) * mine] for each in per_rank], axis=1)
            .ravel()
            .tolist()
            for s in range(steps)
        ]

    def documents(self, name: str, start: int) -> Counter[tuple[int, int]]:
        """How many tokens of the window are of each row of the file, by its start and end."""
        rows = self.rows(name)
        return Counter(
            next((int(a), int(b)) for a, b, *_ in rows if int(a) <= at < int(b))
            for at in range(start, start + LENGTH)
        )

    def rows(self, name: str) -> list[list[str]]:
        with gzip.open(self.folder / f"{name}.csv.gz", "rt", newline="") as lines:
            return [*csv.reader(lines)]


def test_every_step_of_three_epochs_is_olmos(config: Path, tmp_path: Path) -> None:
    run, replica = open_official(config, tmp_path), Replica(tmp_path / "data")
    step = 0
    for epoch in range(3):
        for expected in replica.steps(epoch):
            step += 1
            found_epoch, instances = documents_of_official_step(run, step)
            assert found_epoch == epoch
            assert [each.window for each in instances] == expected
            for each in instances:
                name, start = replica.windows[each.window]
                assert each.place.file == f"s3://nowhere/data/{name}.npy"
                assert (each.place.start, each.place.stop) == (start, start + LENGTH)
                if name == "web/d":
                    assert each.pieces is None
                    continue
                assert each.pieces is not None
                assert replica.documents(name, start) == {
                    (piece.document.start, piece.document.end): piece.stop - piece.start
                    for piece in each.pieces
                }
                assert [p.offset for p in each.pieces] == [
                    max(p.document.start, start) - start for p in each.pieces
                ]
    assert step == 3 * run.batching.per_epoch == run.last_step - 10  # OLMo's ten steps more


def test_a_document_is_found_in_every_step_that_read_it(config: Path, tmp_path: Path) -> None:
    run, replica = open_official(config, tmp_path), Replica(tmp_path / "data")
    every = [step for epoch in range(4) for step in replica.steps(epoch)][: run.last_step]
    for name in ("dclm/a", "wiki/c"):
        rows = replica.rows(name)
        for start, end, identity, *_ in (rows[0], rows[7], rows[-1]):
            [found], without = steps_of_official_document(run, identity)
            assert without == ["s3://nowhere/data/web/d.npy"]
            expected = [
                (step, instance, window)
                for step, windows in enumerate(every, 1)
                for instance, window in enumerate(windows)
                if replica.windows[window][0] == name
                and replica.windows[window][1] < int(end)
                and replica.windows[window][1] + LENGTH > int(start)
            ]
            assert sorted((t.step, t.instance, t.window) for t in found.taken) == expected
            whole = SIZES[name] // LENGTH * LENGTH
            assert found.in_windows == max(0, min(int(end), whole) - int(start))
    [unnamed], _ = steps_of_official_document(run, "s3://nowhere/data/dclm/b.npy:2", ["*/dclm/*"])
    assert unnamed.document.loc == 2


def test_what_a_checkpoint_has_read(config: Path, tmp_path: Path) -> None:
    run, replica = open_official(config, tmp_path), Replica(tmp_path / "data")
    step = run.batching.per_epoch + 3
    windows = [n for each in [*replica.steps(0), *replica.steps(1)[:3]] for n in each]
    expected = Counter(replica.windows[n][0].partition("/")[0] for n in windows)
    found = {each.folder.rpartition("/")[2]: each for each in run.read_up_to(step)}
    assert {name: each.tokens for name, each in found.items()} == {
        name: count * LENGTH for name, count in expected.items()
    }
    assert found["wiki"].listed_tokens == 2 * (333 // LENGTH * LENGTH)
    assert found["dclm"].files == 2


def test_only_sizes_and_the_rows_of_the_files_of_a_step_are_fetched(tmp_path: Path) -> None:
    write_tokens(tmp_path / "data")
    with serving(tmp_path) as server:
        config = write_config(
            tmp_path / "official.yaml",
            f"{server.url}/data",
            core={"cache": str(tmp_path / "cache")},
        )
        run = open_official(config)
        _, [instance] = documents_of_official_step(run, 1, [0])
        name = instance.place.file.removeprefix(server.url)
        fetched = bytes_of(server)
        tokens = {path for path in fetched if path.endswith(".npy")}
        assert tokens == {f"/data/{name}.npy" for name in SIZES}
        assert all(fetched[path] <= 1 for path in tokens)  # a byte, to hear of the size
        assert {path for path in fetched if path.endswith(".csv.gz")} == {
            name.replace(".npy", ".csv.gz")
        }
    local = open_official(config, tmp_path)  # the server is gone: all is below the path of its URL
    assert documents_of_official_step(local, 1, [0])[1][0].place == instance.place


def bytes_of(server: FileServer) -> dict[str, int]:
    """How many bytes were asked of each file at most."""
    found: dict[str, int] = {}
    for path, asked in server.requests:
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        size = int(last) - int(first) + 1 if last else 1 << 60
        found[path] = found.get(path, 0) + size
    return found


def test_the_order_that_the_run_has_recorded_is_read(config: Path, tmp_path: Path) -> None:
    computed = open_official(config, tmp_path)
    other = np.random.default_rng(0).permutation(computed.batching.instances).astype("<u4")
    with serving(tmp_path) as server:
        other[:-2].tofile(tmp_path / "global_indices.npy")  # as of a number of ranks
        url = f"{server.url}/global_indices.npy"
        run = open_official(config, tmp_path, indices=url)
        assert run.batch(2)[1].tolist() == other[BATCH : 2 * BATCH].tolist()
        later = run.batching.per_epoch + 1  # of the next epoch nothing is recorded
        assert run.batch(later)[1].tolist() == computed.batch(later)[1].tolist()
    np.full_like(other, len(other)).tofile(tmp_path / "beyond.npy")
    with pytest.raises(
        InputError, match=rf"window {len(other)} of {len(other)}: the order of other"
    ):
        open_official(config, tmp_path, indices=str(tmp_path / "beyond.npy")).batch(1)
    (tmp_path / "torn.npy").write_bytes(b"12345")
    with pytest.raises(InputError, match="expected 4 for each of"):
        open_official(config, tmp_path, indices=str(tmp_path / "torn.npy")).batch(1)


def test_in_what_a_run_differed_from_its_file(config: Path, tmp_path: Path) -> None:
    later = open_official(config, tmp_path, ["epoch=1"])
    assert later.batch(1)[1].tolist() == Replica(tmp_path / "data").steps(1)[0]


@pytest.mark.parametrize(
    ("changes", "step", "message"),
    [
        ({}, 0, "step 0: expected 1 to "),
        ({"max_duration": 9, "stop_at": 5}, 6, "step 6: expected 1 to 5, which max_duration 9"),
        ({"drop_last": False}, 40, "data.drop_last is false"),
    ],
)
def test_a_step_that_the_run_does_not_take_is_refused(
    changes: dict[str, Any], step: int, message: str, tmp_path: Path
) -> None:
    write_tokens(tmp_path / "data")
    dropped = changes.pop("drop_last", True)
    config = write_config(tmp_path / "official.yaml", "s3://nowhere/data", **changes)
    run = open_official(config, tmp_path, [f"data.drop_last={str(dropped).lower()}"])
    with pytest.raises(InputError, match=message):
        run.batch(step)


def test_what_cannot_be_is_refused(config: Path, tmp_path: Path) -> None:
    run = open_official(config, tmp_path)
    with pytest.raises(InputError, match="a batch has the instances 0 to 5"):
        documents_of_official_step(run, 1, [6])
    with pytest.raises(InputError, match=r"true of none of the 4 data\.paths"):
        steps_of_official_document(run, "a", ["*/nothing/*"])
    with pytest.raises(ConfigError, match="no such folder"):
        open_official(config, tmp_path / "elsewhere")
    rows = tmp_path / "data" / "wiki" / "c.csv.gz"
    rows.write_bytes(gzip.compress(b"0,5,a,b,1\r\n"))
    step = next(n for n in range(1, 20) if any("/c." in run.place(w).file for w in run.batch(n)[1]))
    with pytest.raises(InputError, match="rows of another file"):
        documents_of_official_step(run, step)
    rows.write_bytes(b"torn")
    with pytest.raises(InputError, match=r"c\.csv\.gz: .*expected rows start,end,id,src,loc"):
        steps_of_official_document(run, "a", ["*/wiki/*"])
    (tmp_path / "data" / "dclm" / "a.npy").write_bytes(b"12345")
    with pytest.raises(InputError, match="5 bytes is no multiple of 4"):
        open_official(config, tmp_path)
    config.write_text(config.read_text().replace("paths:", "path_s:"))
    with pytest.raises(ConfigError):
        open_official(config, tmp_path)


def test_the_commands(config: Path, tmp_path: Path) -> None:
    def asked(*arguments: str) -> Any:
        given = ["trace", "official", *arguments, "--tokens", str(tmp_path)]
        shown = CliRunner().invoke(app, given)
        done = CliRunner().invoke(app, [*given, "--json"])
        assert shown.exit_code == done.exit_code
        return shown.exit_code, shown.output, json.loads(done.stdout)

    code, shown, step = asked("step", str(config), "2", "--instance", "1", "--instance", "4")
    assert code == 0
    assert [each["instance"] for each in step["instances"]] == [1, 4]
    assert "step 2 of" in shown
    document = next(d for each in step["instances"] for d in each["documents"] or [])
    code, shown, found = asked("doc", str(config), document["id"])
    assert code == 0
    assert any(one["step"] == 2 for one in found["documents"][0]["taken"])
    assert "web/d.npy: published without rows" in shown
    assert asked("doc", str(config), "nothing")[0] == 1
    _, shown, counted = asked("checkpoint", str(config), "2")
    assert sum(each["tokens"] for each in counted["folders"]) == 2 * BATCH * LENGTH
    assert f"{2 * BATCH * LENGTH} tokens up to step 2" in shown
