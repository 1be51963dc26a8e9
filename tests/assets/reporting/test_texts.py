"""What is said of a job at work."""

import pytest

from assets.reporting.texts import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (42.2, "42 s"),
        (90, "90 s"),
        (200, "3 min"),
        (720, "12 min"),
        (11100, "3 h 05 min"),
        (19200, "5 h 20 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_are_said_as_a_person_would(seconds: float, text: str) -> None:
    assert duration(seconds) == text
