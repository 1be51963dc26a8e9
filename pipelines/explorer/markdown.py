"""A model card as HTML: headings, tables, lists and code; no HTML of its own, and no picture."""

import functools

from markdown_it import MarkdownIt
from markupsafe import Markup

from assets.reporting.texts import visible


def card_html(text: str) -> Markup:
    """Return a card as HTML.

    HTML in it stands as it is written, an image as its Markdown, so that nothing is loaded; a link
    that is neither of the web nor within the page (`javascript:`, `data:`) is none.
    """
    parser = _parser()
    tokens = parser.parse(visible(text))
    for token in tokens:
        token.attrs.pop("style", None)  # of a table's cell: no page takes styles within it
    return Markup(parser.renderer.render(tokens, parser.options, {}))


@functools.cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
