"""Values are text, whatever they hold; a page that stands alone loads nothing."""

import base64
import hashlib
import re

import pytest

from pipelines.explorer.charts import BarChart, Line, LineChart
from pipelines.explorer.render import STATIC, Page, alone, served

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\x00\u202eevil"


def page(message: str) -> Page:
    return Page(template="error.html", title=message, values={"message": message})


def charted() -> Page:
    line = Line(name=HOSTILE, steps=[1, 2], tokens=[1, 2], values=[3.0, None])
    bars = BarChart(title=HOSTILE, labels=("x",), columns=("y",), rows=[{"x": HOSTILE, "y": 1}])
    return Page(
        template="compare.html",
        title="t",
        charts={"curves": LineChart(title=HOSTILE, label=HOSTILE, lines=[line]), "bars": bars},
        values={
            **dict.fromkeys(("chosen", "config", "causes", "losses", "scores", "notes"), ()),
            "names": {},
            "metrics": [HOSTILE],
            "metric": HOSTILE,
        },
    )


@pytest.mark.parametrize("made", [page(HOSTILE), charted()], ids=["text", "chart"])
def test_nothing_in_a_value_is_obeyed(made: Page) -> None:
    for text in (served(made, save="/?save"), alone(made, {})):
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert not set("\x1b\x00\u202e") & set(text)


def test_control_characters_stand_as_they_are_written() -> None:
    text = served(page("\x1b[31m a\u202eb \x00 \ud800"), save="")
    assert "\\x1b[31m a\\u202eb \\x00 \\ud800" in text


def test_a_page_that_stands_alone_names_nothing_to_load() -> None:
    text = alone(charted(), {})
    policy = re.search('Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'")
    assert "default-src 'none'" in allowed
    for tag in ("style", "script"):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in allowed
    loads = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert loads
    assert all(each.startswith("data:") for each in loads)
    assert "plotly" not in text


def test_a_saved_page_links_to_what_lies_beside_it_alone() -> None:
    text = alone(charted(), {"/": "index.html"})
    assert 'href="index.html"' in text
    assert 'href="/' not in text


def test_plotly_finds_every_style_that_it_would_else_make() -> None:
    """Made by plotly they are inline styles, which the policy refuses."""
    script = STATIC["plotly.js"][0].read_text(encoding="utf-8")
    made = re.findall(
        r'getElementById\("(\w+)"\)\)\{var \w+=document\.createElement\("style"', script
    )
    assert made
    assert script.count('createElement("style")') == len(made) + 1  # and `plotly.js-style-…`
    text = served(charted(), save="")
    for name in (*made, "plotly.js-style-global"):
        assert f'id="{name}"' in text
