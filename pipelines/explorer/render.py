"""Pages as HTML: every value is escaped, and control characters stand as they are written.

A page is served, with links to others and plotly, or stands alone in a file: its style within it,
its charts as pictures, no script that draws, no links but to what lies beside it.
"""

import base64
import functools
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from assets.reporting.texts import amount, duration, visible
from pipelines.explorer import addresses
from pipelines.explorer.charts import AnyChart

HERE = Path(__file__).parent
STATIC = {
    "explorer.css": (HERE / "static" / "explorer.css", "text/css"),
    "chart.css": (HERE / "static" / "chart.css", "text/css"),
    "explorer.js": (HERE / "static" / "explorer.js", "text/javascript"),
    "charts.js": (HERE / "static" / "charts.js", "text/javascript"),
    "plotly.js": (Path(str(files("plotly") / "package_data" / "plotly.min.js")), "text/javascript"),
}


# Whether a page that may be passed on may hold texts of a source; None: it is not passed on.
Publishable = Callable[[str], bool] | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page: what its template is given."""

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    charts: Mapping[str, AnyChart] = field(default_factory=dict[str, AnyChart])  # by name


def served(page: Page, *, save: str) -> str:
    """Return a page with links to the others; `save` is the address of the page as a file."""
    return _rendered(page, alone=False, href=lambda address: address, save=save)


def alone(page: Page, saved: Mapping[str, str]) -> str:
    """Return a page as one file that loads nothing.

    Args:
        page: The page.
        saved: Files that lie beside it, by the addresses of their pages.
    """
    style, script = (_text(name) for name in ("explorer.css", "explorer.js"))
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return _rendered(
        page,
        alone=True,
        href=saved.get,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        pictures={name: chart.picture() for name, chart in page.charts.items()},
    )


def _rendered(page: Page, **more: Any) -> str:
    template = _environment().get_template(page.template)
    text = template.render(title=page.title, charts=page.charts, **page.values, **more)
    # A lone surrogate is part of no encoding; it stands as it is written.
    return text.encode("utf-8", "backslashreplace").decode()


def _text(name: str) -> str:
    return STATIC[name][0].read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        amount=_amount, whole=_whole, figure=_figure, duration=duration, ago=_ago, when=_when
    )
    environment.globals.update(at=addresses)
    return environment


def _shown(value: Any) -> Any:
    """Return what stands for a value: nothing for None; of a text no character is obeyed."""
    if value is None:
        return ""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return visible(value)


def _amount(value: float | None) -> str:
    return "" if value is None else amount(value)


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _figure(value: Any) -> Any:
    """Return a number of a table with four digits; any other value as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _ago(then: float) -> str:
    return duration(max(0.0, time.time() - then))


def _when(then: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))
