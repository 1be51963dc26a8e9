import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.config.train import InstanceFilterConfig
from olmo_core.data.loader import Batch, Loader
from olmo_core.data.manifest import Manifest
from olmo_core.data.order import OrderName
from olmo_core.errors import InputError


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """103 windows of 16 tokens in two files, and a tail; window w holds 16·w … 16·w + 15."""
    np.arange(50 * 16, dtype="<u2").tofile(tmp_path / "a.npy")
    np.arange(50 * 16, 103 * 16 + 5, dtype="<u2").tofile(tmp_path / "b.npy")
    return Manifest.from_paths([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")], dtype="uint16")


def loader(manifest: Manifest, **changes) -> Loader:
    settings: dict[str, Any] = {"sequence_length": 16, "global_batch_size": 12, "seed": 6198}
    return Loader(manifest=manifest, **(settings | changes))


def test_batches_are_olmos(manifest: Manifest) -> None:
    """Three epochs against the definition: shuffle, drop the last, stride over ranks."""
    data = loader(manifest)
    assert data.batching.per_epoch == 103 // 12
    step = 0
    for epoch in range(3):
        indices = np.arange(103, dtype=np.uint32)
        np.random.Generator(np.random.PCG64(seed=6198 + epoch)).shuffle(indices)
        for start in range(0, 103 - 12 + 1, 12):
            for rank in range(4):
                batch = data.batch(step, rank=rank, world_size=4)
                mine = indices[start : start + 12][rank::4].astype(np.int64)
                assert np.array_equal(batch.instances, mine)
                expected = mine[:, None] * 16 + np.arange(16)
                assert batch.input_ids.dtype == np.int64
                assert np.array_equal(batch.input_ids, expected)
                assert batch.instance_mask.all()
                assert batch.label_mask is None
            step += 1


@pytest.mark.parametrize("order", ["olmo", "feistel"])
def test_an_epoch_sees_every_window_once(manifest: Manifest, order) -> None:
    data = loader(manifest, order=order, global_batch_size=1)
    assert data.batching.per_epoch == 103
    for epoch in range(2):
        seen = [int(data.instances(epoch * 103 + step)[0]) for step in range(103)]
        assert sorted(seen) == list(range(103))


@pytest.fixture
def rich(tmp_path: Path) -> Callable[..., Loader]:
    """A loader of data with all there is: label masks, repetition, documents, two files."""
    rng = np.random.default_rng(0)
    paths, masks = [tmp_path / "a", tmp_path / "b"], [tmp_path / "ma", tmp_path / "mb"]
    for path, mask, windows in zip(paths, masks, (50, 53), strict=True):
        tokens = rng.integers(0, 99, 64 * windows, dtype=np.uint16)
        tokens.reshape(windows, 64)[::5, 10:60] = 7  # every fifth window repeats itself
        tokens.tofile(path)
        (rng.random(len(tokens)) < 0.3).tofile(mask)

    def open_again(order: OrderName = "feistel") -> Loader:
        manifest = Manifest.from_paths(
            [str(path) for path in paths],
            dtype="uint16",
            label_mask_paths=[str(mask) for mask in masks],
        )
        return loader(
            manifest,
            sequence_length=64,
            order=order,
            instance_filter=InstanceFilterConfig(),
            document_eos=0,
        )

    return open_again


def fields(batch: Batch) -> list[np.ndarray]:
    assert batch.label_mask is not None
    assert batch.positions is not None
    masks = [batch.instance_mask, batch.label_mask]
    return [batch.instances, batch.input_ids, *masks, batch.positions]


@pytest.mark.parametrize("order", ["olmo", "feistel"])
def test_the_same_global_batch_for_any_world(rich: Callable[..., Loader], order) -> None:
    data = rich(order)
    masked = 0
    for step in (0, 3, 7, 8, 100):
        whole = fields(data.batch(step))
        masked += int((~whole[2]).sum())
        for world_size in (2, 3, 6):
            parts = [
                fields(rich(order).batch(step, rank=r, world_size=world_size))
                for r in range(world_size)
            ]
            for one, several in zip(whole, zip(*parts, strict=True), strict=True):
                assert np.array_equal(np.stack(several, axis=1).reshape(one.shape), one)
    assert masked


@pytest.mark.parametrize("order", ["olmo", "feistel"])
def test_resumed_anywhere_with_any_number_of_ranks(rich: Callable[..., Loader], order) -> None:
    """Three epochs of eight steps, interrupted within and between them, by changing ranks."""
    data = rich(order)
    assert data.batching.per_epoch == 8
    undisturbed = [fields(batch) for batch in data.iterate(0, stop_step=24)]
    seen: list[list[np.ndarray]] = []
    for start, stop, world_size in ((0, 5, 1), (5, 8, 2), (8, 13, 4), (13, 18, 3), (18, 24, 1)):
        ranks = [
            rich(order).iterate(start, rank=r, world_size=world_size, stop_step=stop)
            for r in range(world_size)
        ]
        for parts in zip(*ranks, strict=True):
            several = zip(*(fields(part) for part in parts), strict=True)
            seen.append([
                np.stack(one, axis=1).reshape(-1, *one[0].shape[1:]) for one in several
            ])  # fmt: skip
    assert len(seen) == len(undisturbed) == 24
    for one, other in zip(undisturbed, seen, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    epochs = [np.concatenate([batch[0] for batch in undisturbed[e : e + 8]]) for e in (0, 8, 16)]
    for epoch in epochs:
        assert len(np.unique(epoch)) == 96
    assert not np.array_equal(epochs[0], epochs[1])


def test_iterate_from_anywhere_equals_random_access(manifest: Manifest) -> None:
    data = loader(manifest)
    for start in (0, 5, 17):  # 17 lies in the third epoch; the walk crosses its end
        walk = data.iterate(start, rank=1, world_size=3, stop_step=start + 10)
        for step, batch in zip(range(start, start + 10), walk, strict=True):
            assert np.array_equal(batch.instances, data.instances(step)[1::3])


def test_first_epoch_shifts_the_epochs(manifest: Manifest) -> None:
    later = loader(manifest, first_epoch=1)
    assert np.array_equal(later.instances(0), loader(manifest).instances(8))


def test_repetitive_instances_are_masked_not_removed(tmp_path: Path) -> None:
    tokens = np.arange(4 * 64, dtype="<u2")
    tokens[64:128] = 7
    tokens.tofile(tmp_path / "a.npy")
    manifest = Manifest.from_paths([str(tmp_path / "a.npy")], dtype="uint16")
    data = loader(
        manifest,
        sequence_length=64,
        global_batch_size=4,
        instance_filter=InstanceFilterConfig(),
    )
    batch = data.batch(0)
    assert batch.instance_mask.tolist() == [window != 1 for window in batch.instances.tolist()]


def test_label_masks(tmp_path: Path) -> None:
    np.arange(64, dtype="<u2").tofile(tmp_path / "a.npy")
    (np.arange(64) % 2 == 0).tofile(tmp_path / "mask.npy")
    manifest = Manifest.from_paths(
        [str(tmp_path / "a.npy")],
        dtype="uint16",
        label_mask_paths=[str(tmp_path / "mask.npy")],
    )
    batch = loader(manifest, global_batch_size=4).batch(0)
    assert batch.label_mask is not None
    assert np.array_equal(batch.label_mask, batch.input_ids % 2 == 0)


def test_positions_restart_at_documents_and_change_nothing_else(tmp_path: Path) -> None:
    """Where asked for; each instance begins one, wherever its document was cut."""
    tokens = np.arange(1, 65, dtype="<u2")
    tokens[[3, 20, 21]] = 0
    tokens.tofile(tmp_path / "a.npy")
    manifest = Manifest.from_paths([str(tmp_path / "a.npy")], dtype="uint16")
    plain, data = (loader(manifest, global_batch_size=4, document_eos=e) for e in (None, 0))
    batch = data.batch(1)
    expected = {0: [*range(4), *range(12)], 1: [*range(5), 0, *range(10)]}
    assert batch.positions is not None
    assert batch.positions.tolist() == [
        expected.get(window, list(range(16))) for window in batch.instances.tolist()
    ]
    assert plain.batch(1).positions is None
    assert np.array_equal(plain.batch(1).input_ids, batch.input_ids)
    assert plain.order_spec() == data.order_spec()


def test_the_order_specification_names_all_that_fixes_the_batches(manifest: Manifest) -> None:
    assert loader(manifest, order="feistel").order_spec() == {
        "algorithm": "feistel",
        "version": 1,
        "seed": 6198,
        "first_epoch": 0,
        "windows": 103,
        "sequence_length": 16,
        "global_batch_size": 12,
        "manifest_sha256": manifest.sha256,
    }


@pytest.mark.parametrize("order", ["olmo", "feistel"])
def test_steps_of_an_instance(manifest: Manifest, order) -> None:
    data = loader(manifest, order=order)
    seen: dict[int, list[int]] = {}
    for step in range(3 * data.batching.per_epoch):
        for instance in data.instances(step).tolist():
            seen.setdefault(instance, []).append(step)
    for instance in range(103):
        assert data.steps_of(instance, epochs=3) == seen.get(instance, [])


def test_an_error_of_the_reading_thread_arrives_at_its_step(
    manifest: Manifest, tmp_path: Path
) -> None:
    data = loader(manifest, vocab_size=50 * 16)  # the second file lies beyond it
    good = next(
        step for step in range(100) if data.instances(step).max() >= 50
    )  # the first step that must fail
    batches = data.iterate(0)
    for _ in range(good):
        next(batches)
    with pytest.raises(InputError, match=r"b\.npy: token id \d+ at position"):
        next(batches)
    assert not [t for t in threading.enumerate() if t.name == "loader"]


def test_a_truncated_file_is_named(manifest: Manifest, tmp_path: Path) -> None:
    data = loader(manifest, global_batch_size=103)
    path = tmp_path / "b.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"b\.npy: ends at byte"):
        data.batch(0)


def test_leaving_the_iteration_ends_its_thread(manifest: Manifest) -> None:
    batches = loader(manifest).iterate()
    assert len(list(itertools.islice(batches, 3))) == 3
    batches.close()
    assert not [t for t in threading.enumerate() if t.name == "loader"]


def test_too_little_data_and_uneven_ranks(manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"103 instances .* 104: 1664 tokens"):
        loader(manifest, global_batch_size=104)
    with pytest.raises(ValueError, match="divide evenly"):
        loader(manifest).batch(0, rank=0, world_size=5)
    with pytest.raises(IndexError, match="step -1"):
        loader(manifest).instances(-1)
