"""Batches of an epoch, and of one that is begun with another batch size: by counting."""

import pytest

from olmo_core.config.duration import Batching, Duration, Origin


def counted(batching: Batching, steps: int) -> dict[int, tuple[int, int]]:
    """Where each step's batch begins, an instance at a time."""
    places: dict[int, tuple[int, int]] = {}
    epoch, instance = batching.origin.epoch, batching.origin.instance
    for step in range(batching.origin.step, batching.origin.step + steps):
        if instance + batching.size > batching.instances:  # the tail fills no batch
            epoch, instance = epoch + 1, 0
        places[step] = epoch, instance
        instance += batching.size
    return places


@pytest.mark.parametrize(
    "origin",
    [
        Origin(),
        Origin(step=7, tokens=70, epoch=0, instance=14),
        Origin(step=9, epoch=2, instance=48),  # less than a batch is left
        Origin(step=3, epoch=1, instance=0),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 7, 50])
def test_places_are_those_counted_one_by_one(origin: Origin, size: int) -> None:
    batching = Batching(instances=50, size=size, origin=origin)
    places = counted(batching, 200)
    assert {step: batching.place(step) for step in places} == places
    taken = {(e, i + k): step for step, (e, i) in places.items() for k in range(size)}
    for epoch in range(3):
        for position in range(50):
            assert batching.step_of(epoch, position) == taken.get((epoch, position))
        assert batching.end_of(epoch) == min(
            (step for step, place in places.items() if place[0] > epoch), default=None
        )
    if origin.step:
        with pytest.raises(IndexError, match=f"the first is {origin.step}"):
            batching.place(origin.step - 1)


def test_a_duration_in_tokens_counts_on() -> None:
    origin = Origin(step=10, tokens=2560)
    assert Duration.parse("8000T").steps(544, None, origin) == 20
    assert Duration.parse("2000T").steps(544, None, origin) == 10  # is over already
    assert Duration.parse(12).steps(544, None, origin) == 12
    assert origin.tokens_at(12, 544) == 2560 + 2 * 544
