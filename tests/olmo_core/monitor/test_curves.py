"""Curves over tokens, in a picture and in characters."""

import re
from dataclasses import replace

import pytest

from olmo_core.monitor.curves import COLOURS, Curve, Panel, characters, picture

RISING = Curve(name="stage1 $a$", tokens=[0, 1e6], values=[0.25, 0.75], errors=[0.05, None])
LATER = Curve(name="soup", tokens=[2e6], values=[0.5], errors=[0.25])
PANEL = Panel(title="copa", label="acc", curves=[RISING, LATER])


@pytest.mark.parametrize(("file_format", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_is_of_its_format_and_the_same_each_time(file_format: str, begins: bytes) -> None:
    first = picture([PANEL, PANEL, PANEL], file_format)
    assert first.startswith(begins)
    assert picture([PANEL, PANEL, PANEL], file_format) == first
    assert picture([PANEL], file_format) != first


def test_the_texts_of_a_picture_are_texts() -> None:
    svg = picture([PANEL], "svg").decode()
    for text in ("copa", "acc", "tokens", "soup", "stage1 $a$"):
        assert f">{text}<" in svg


def test_a_curve_with_errors_has_a_band() -> None:
    sure = Curve(name="stage1 $a$", tokens=[0, 1e6], values=[0.25, 0.75], errors=[None, None])
    plain = picture([Panel(title="copa", label="acc", curves=[sure])], "svg").decode()
    banded = picture([Panel(title="copa", label="acc", curves=[RISING])], "svg").decode()
    assert ("FillBetween" in plain, "FillBetween" in banded) == (False, True)


def test_what_was_found_in_loop_is_dashed_in_the_colour_of_its_run() -> None:
    in_loop = replace(RISING, in_loop=True)
    panel = Panel(title="copa", label="acc", curves=[RISING, LATER, in_loop])
    svg = picture([panel], "svg").decode()
    alone = picture([Panel(title="copa", label="acc", curves=[RISING, LATER])], "svg").decode()
    assert ("stroke-dasharray: 3.7" in svg, "stroke-dasharray: 3.7" in alone) == (True, False)
    colours = [colour for colour in COLOURS if f"stroke: {colour}" in svg]
    assert colours == [*COLOURS[:2]]
    assert ">stage1 $a$, in loop<" in svg
    assert characters(panel, width=40).splitlines()[-1].strip() == "+ stage1 $a$, in loop"


def test_characters_show_points_bands_axes_and_names() -> None:
    lines = characters(PANEL, width=40, height=11).splitlines()
    assert lines[0] == "copa (acc)"
    chart = [line.partition("┤")[2] for line in lines[1:12]]
    assert [line.partition("┤")[0].strip() for line in lines[1:12]] == [
        *("0.75", "", "", "", "", "0.475", "", "", "", "", "0.2"),
    ]
    # 28 columns: 0 tokens, 1M in the middle, 2M; 0.05 a line.
    places = {(y, x): mark for y, line in enumerate(chart) for x, mark in enumerate(line)}
    points = {place: mark for place, mark in places.items() if mark in "ox"}
    assert points == {(9, 0): "o", (0, 14): "o", (5, 27): "x"}
    assert places[8, 0] == places[10, 0] == "·"
    assert {y for (y, x), mark in places.items() if x == 27 and mark == "·"} == {*range(10)} - {5}
    assert lines[13].split() == ["0", "2M", "tokens"]
    assert [line.strip() for line in lines[14:]] == ["o stage1 $a$", "x soup"]
    assert max(map(len, lines)) <= 40


def test_no_two_of_many_curves_look_alike() -> None:
    """Two recipes of five models have ten curves, three more than there are colours."""
    for points in (4, 200):
        tokens = [1e6 * step for step in range(1, points + 1)]
        curves = [
            Curve(name=f"m{n}", tokens=tokens, values=[n] * points, errors=[None] * points)
            for n in range(1, 3 * len(COLOURS) + 1)
        ]
        panel = Panel(title="t", label="x", curves=curves)
        legend = [row.split() for row in characters(panel, width=80).splitlines()[-len(curves) :]]
        assert [name for _, name in legend] == [curve.name for curve in curves]
        assert len({mark for mark, _ in legend}) == len(curves)
        drawn = picture([panel], "svg").decode()
        # A marker's drawing stands once in the file, and its places refer to it in its colour.
        looks = re.findall(r'xlink:href="#(m\w+)" x="[^"]*" y="[^"]*" style="fill: (#\w+)', drawn)
        assert len({look for look in looks if look[1] in COLOURS}) >= 2 * len(COLOURS)


def test_one_point_is_drawn() -> None:
    curve = Curve(name="a", tokens=[5], values=[3], errors=[None])
    alone = Panel(title="nats", label="nats", curves=[curve])
    lines = characters(alone, width=40, height=11).splitlines()
    assert [line.partition("┤")[2] for line in lines[1:12]] == [*[""] * 5, "o", *[""] * 5]
    assert [line.split()[0] for line in (lines[1], lines[6], lines[11])] == ["3.3", "3", "2.7"]
    assert picture([alone], "png").startswith(b"\x89PNG")
