"""A card is HTML of headings, tables and code; nothing else in it is obeyed."""

import pytest

from pipelines.explorer.markdown import card_html


def test_headings_tables_and_code() -> None:
    text = card_html("# A model\n\n| a | b |\n|---|---:|\n| 1 | `2` |\n\n    code <b>\n")
    assert "<h1>A model</h1>" in text
    assert "<td>1</td>" in text
    assert "<code>2</code>" in text
    assert "code &lt;b&gt;" in text
    assert "style" not in text


@pytest.mark.parametrize(
    ("given", "never"),
    [
        ("<script>alert(1)</script>", "<script"),
        ("a <img src=x onerror=alert(1)> b", "<img"),
        ("![x](http://attacker.invalid/x.png)", "<img"),
        ("![x][1]\n\n[1]: http://attacker.invalid/x.png", "<img"),
        ("[x](javascript:alert(1))", "href"),
        ("[x](data:text/html,<script>)", "href"),
        ("[x](JaVaScRiPt&colon;alert(1))", "javascript"),
        ("<javascript:alert(1)>", "href"),
        ('[x](https://a.b/"onmouseover=alert(1))', '"onmouseover'),
        ('```"><script>alert(1)</script>\nx\n```', "<script"),
        ("\x1b[31m \u202e \x00", "\x1b"),
    ],
)
def test_nothing_in_it_is_obeyed(given: str, never: str) -> None:
    assert never not in card_html(given)
