"""The explorer in a real headless browser: what documents hold is inert, from the soup to a step's
documents in three clicks, at a phone's width, and as files without a network."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from playwright.sync_api import Dialog, Page, expect

from tests.integration.conftest import RECIPES, World
from tests.integration.test_ui import PATIENCE, opened_page
from tests.pipelines.explorer.serving import serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OUTSIDE = "attacker.invalid"
# Each would change the title of the page, ask another host, or show what is not there.
ATTACKS = (
    f"<script>document.title = 'run'; fetch('http://{OUTSIDE}/script')</script>",
    "</pre></script><script>document.title = 'run'</script>",
    f"<img src=http://{OUTSIDE}/image onerror=\"document.title = 'run'\">",
    f"![image](http://{OUTSIDE}/markdown.png) [link](javascript:document.title='run')",
    "<svg onload=\"document.title = 'run'\"><details open ontoggle=\"document.title = 'run'\">",
    f"<iframe src=http://{OUTSIDE}/frame></iframe><object data=http://{OUTSIDE}/object></object>",
    f"<style>@import 'http://{OUTSIDE}/style'; main {{ display: none }}</style>",
    f"<base href=http://{OUTSIDE}/><meta http-equiv=refresh content='0;url=http://{OUTSIDE}/'>",
    "\"><script>document.title = 'run'</script> ' onmouseover='document.title = 1'",
    "{{ 7 * 7 }} {% for x in y %} ${7 * 7} <%= 7 * 7 %>",
    "\x1b]0;run\x07\x1b[31mred\x1b[0m \x9b31m",
    "a NUL \x00 here",
    "\u202egnp.exe\u202c \u2066isolated \u200f \u061c",
    "a\u0300\u0301\u0302\u0303" * 40,
)
HARMLESS = "Failed to load resource: the server responded with a status of 4"  # of the page itself
WORDS = "the record of a harbour where seventy ships lay waiting for wind and none of them sailed"

# Where the point in the middle of the first chart's first curve stands in the window.
MIDDLE_POINT = """() => {
    const plot = document.querySelector(".js-plotly-plot");
    const { xaxis, yaxis } = plot._fullLayout;
    const curve = plot.calcdata[0];
    const point = curve[Math.floor(curve.length / 2)];
    const box = plot.getBoundingClientRect();
    return [box.x + xaxis._offset + xaxis.c2p(point.x), box.y + yaxis._offset + yaxis.c2p(point.y)];
}"""


@dataclass
class Watched:
    """A window of the browser, and all that a page has done there."""

    page: Page
    origin: str
    outside: list[str] = field(default_factory=list)  # requests to others
    errors: list[str] = field(default_factory=list)  # of scripts, and what the policy refused
    dialogs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        own = (self.origin, "data:", "file:")
        self.page.on(
            "request", lambda r: None if r.url.startswith(own) else self.outside.append(r.url)
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda said: self.errors.append(said.text) if said.type == "error" else None
        )
        self.page.on("dialog", self._dialog)

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def goto(self, address: str) -> None:
        """Open a page; nothing may have happened on it but what its own script does."""
        self.errors.clear()
        self.page.goto(address if "://" in address else self.origin + address)
        self.expect_calm()

    def expect_calm(self) -> None:
        assert (self.outside, self.dialogs) == ([], [])
        assert [said for said in self.errors if not said.startswith(HARMLESS)] == []
        assert self.page.title() != "run"
        wide, room = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= room  # the page itself never scrolls sideways


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with opened_page() as opened:
        yield opened


def new_page(page: Page) -> Page:
    """A further window of the browser that a page is of."""
    browser = page.context.browser
    assert browser is not None
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.set_default_timeout(PATIENCE)
    return opened


@pytest.fixture
def watched(page: Page, tiny: World) -> Iterator[Watched]:
    with pytest.MonkeyPatch.context() as patch, serving(tiny.root) as origin:
        for name in ("OLMO_ROOT", "OLMO_RECIPES"):
            patch.setenv(name, tiny.environment[name])
        yield Watched(new_page(page), origin)


def test_from_the_soup_to_the_documents_of_a_step_in_three_clicks(
    watched: Watched, tiny: World
) -> None:
    """The first click is the one in Dagster, on the link to the soup's page."""
    page = watched.page
    watched.goto("/model/tiny/soup")
    expect(page.get_by_text("weight 0.5").first).to_be_visible()
    page.locator(".ancestor a", has_text="stage2_ingredient2").click()
    expect(page.locator("figure.chart svg.main-svg").first).to_be_visible()
    page.locator(".steps a", has_text="last: step 10").click()
    expect(page.get_by_role("heading", name="tiny/stage2_ingredient2: step 10")).to_be_visible()
    assert len(page.locator("pre.text").all_inner_texts()) >= 8
    watched.expect_calm()


def test_a_click_on_a_point_of_a_curve_leads_to_its_step(watched: Watched) -> None:
    page = watched.page
    watched.goto("/model/tiny/stage1")
    expect(page.locator("figure.chart .nsewdrag").first).to_be_visible()
    # One click, on the point itself: a second might come when its page is there, and hit a link.
    x, y = page.evaluate(MIDDLE_POINT)
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    expect(page.get_by_role("heading", name="tiny/stage1: step")).to_be_visible()
    watched.expect_calm()


@pytest.mark.parametrize("width", [1400, 390])
def test_every_page_fits_a_screen_and_a_phone(watched: Watched, width: int) -> None:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 850})
    watched.goto("/")
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("figure.chart svg.main-svg").first).to_be_visible()
    watched.expect_calm()
    page.get_by_label("smoothing").fill("0.9")
    page.get_by_label("difference from the first").check()
    page.get_by_label("over").select_option("steps")
    expect(page.get_by_text("nats per token, minus")).to_be_visible()
    watched.expect_calm()
    for address in ("/model/tiny/soup", "/plan/tiny", "/documents/tiny", "/documents/tiny?q=nope"):
        watched.goto(address)
    page.get_by_role("link", name="plan of tiny").click()
    expect(page.get_by_text("up to date").first).to_be_visible()


def test_results_of_a_shared_root_are_shown_like_ones_own(
    page: Page, tiny: World, tmp_path: Path
) -> None:
    """Nothing is in the own root; from the soup to a step's documents, and from one back."""
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path) as origin:
        patch.setenv("OLMO_ROOT", str(tmp_path))
        patch.setenv("OLMO_SHARED_ROOTS", str(tiny.root))
        patch.setenv("OLMO_RECIPES", tiny.environment["OLMO_RECIPES"])
        watched = Watched(new_page(page), origin)
        opened = watched.page
        watched.goto("/plan/tiny")
        opened.get_by_role("link", name="soup").click()
        expect(opened.get_by_text(f"in the shared root {tiny.root}").first).to_be_visible()
        opened.locator(".ancestor a", has_text="stage1").last.click()
        expect(opened.locator("figure.chart svg.main-svg").first).to_be_visible()
        opened.locator(".steps a", has_text="last: step 40").click()
        expect(opened.locator("pre.text").first).to_be_visible()
        opened.locator("article h3 a").first.click()
        opened.locator("table a", has_text="step").first.click()
        expect(opened.get_by_role("heading", name="tiny/stage").first).to_be_visible()
        watched.expect_calm()


def test_a_table_sorts_and_filters(watched: Watched) -> None:
    page = watched.page
    watched.goto("/")
    rows = page.locator("#experiments tbody tr:visible")
    assert rows.count() == 4
    page.get_by_role("columnheader", name="steps").click()
    assert [row.split()[1] for row in rows.all_inner_texts()][-1] == "soup"  # it has none
    page.get_by_label("filter").fill("ingredient1 finished")
    expect(rows).to_have_count(1)


def test_files_of_a_release_need_no_network(watched: Watched, tiny: World, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    done = tiny.olmo("release", "pages", "tiny", str(folder))
    assert done.returncode == 0, done.stderr
    watched.page.context.set_offline(True)
    try:
        watched.goto((folder / "index.html").as_uri())
        page = watched.page
        page.get_by_role("link", name="soup").click()
        assert page.locator("figure img").count() > 5
        sizes = page.locator("figure img").evaluate_all("all => all.map(i => i.naturalWidth)")
        assert min(sizes) > 300
        watched.expect_calm()
        page.get_by_role("link", name="documents of its last step").first.click()
        expect(page.get_by_text("The text is not published.").first).to_be_visible()
        assert page.locator("pre.text").count() == 0
        page.locator("h3 a").first.click()
        expect(page.get_by_text("The text is not published.")).to_be_visible()
        watched.expect_calm()
    finally:
        watched.page.context.set_offline(False)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> "Hostile":
    """The recipe `tiny` on a source whose ids, texts and URLs attack whoever shows them."""
    folder = tmp_path_factory.mktemp("hostile")
    recipe = shutil.copytree(RECIPES / "tiny", folder / "recipes" / "tiny")
    texts = folder / "texts"
    texts.mkdir()
    with (texts / "attacks.jsonl").open("w") as lines:
        for number in range(4 * len(ATTACKS)):
            attack = ATTACKS[number % len(ATTACKS)]
            filler = " ".join(f"{word}{number}" for word in WORDS.split())
            row = {"id": f"{attack} {number}", "text": f"{attack} {filler} {attack} " * 3}
            url = f"javascript:document.title='run'//{attack}"
            lines.write(json.dumps({**row, "metadata": {"url": url}}) + "\n")
    corpus = yaml.safe_load((recipe / "corpus.yaml").read_text())
    corpus["raw"]["sources"].append(
        {"name": "hostile", "reader": "files", "root": str(texts), "include": ["*.jsonl"]}
    )
    corpus["tagged"]["taggers"]["hostile"] = ["gopher_v2"]
    corpus["filtered"]["rules"]["hostile"] = []
    corpus["filtered"]["min_kept_share"]["hostile"] = 0.5
    corpus["stage1_mix"]["sources"] = {"hostile": {"repetitions": 4}}
    (recipe / "corpus.yaml").write_text(yaml.safe_dump(corpus, sort_keys=False))
    world = Hostile(root=folder / "root", recipes=recipe.parent)
    done = world.olmo("run", "tiny", "--select", "stage1,documents")
    assert done.returncode == 0, done.stdout + done.stderr
    return world


@dataclass(frozen=True, kw_only=True)
class Hostile(World):
    """A world with recipes of its own."""

    recipes: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "OLMO_RECIPES": str(self.recipes)}


@pytest.mark.parametrize("width", [1400, 390])
def test_what_documents_hold_is_inert(page: Page, hostile: Hostile, width: int) -> None:
    with pytest.MonkeyPatch.context() as patch, serving(hostile.root) as origin:
        for name in ("OLMO_ROOT", "OLMO_RECIPES"):
            patch.setenv(name, hostile.environment[name])
        watched = Watched(new_page(page), origin)
        watched.page.set_viewport_size({"width": width, "height": 850})
        run = hostile.path("stage1").name
        seen = ""
        for step in range(1, 41, 4):
            watched.goto(f"/step/tiny/stage1/{run}?step={step}")
            seen += "".join(watched.page.locator("pre.text").all_text_contents())
        watched.goto("/documents/tiny?q=hostile/")
        links = watched.page.locator("td a").evaluate_all("all => all.map(a => a.href)")
        assert len(links) > len(ATTACKS)
        for link in links[:: 1 if width > 1000 else 5]:
            watched.goto(link)
            seen += "".join(watched.page.locator("pre.text").all_text_contents())
        assert "<script>document.title" in seen
        assert f"![image](http://{OUTSIDE}" in seen
        assert "{{ 7 * 7 }}" in seen
        assert "\\x1b]0;run\\x07" in seen
        assert "\\u202egnp.exe\\u202c" in seen
        assert not {*"\x1b\x00\x9b\u202e\u2066\u200f\u061c"} & {*seen}


def test_published_texts_are_inert_in_files_too(
    page: Page, hostile: "Hostile", tmp_path: Path
) -> None:
    """The recipe lets texts of the source be published: they are in the file, as text."""
    with pytest.MonkeyPatch.context() as patch, serving(hostile.root) as origin:
        for name in ("OLMO_ROOT", "OLMO_RECIPES"):
            patch.setenv(name, hostile.environment[name])
        watched = Watched(new_page(page), origin)
        run = hostile.path("stage1").name
        address = f"{origin}/step/tiny/stage1/{run}?step=1&save"
        release = hostile.recipes / "tiny" / "release.yaml"
        release.unlink(missing_ok=True)
        withheld = watched.page.request.get(address).text()
        assert "harbour" not in withheld
        release.write_text("publishable_text: [hostile]\n")
        (tmp_path / "step.html").write_text(watched.page.request.get(address).text())
        watched.goto((tmp_path / "step.html").as_uri())
        assert "harbour" in watched.page.locator("pre.text").first.inner_text()
        release.write_text("publishable_text: [hostle]\n")
        refused = watched.page.request.get(address)
        assert refused.status == 422
        assert "hostile" in refused.text()  # the nearest of its sources
        release.unlink()


def test_hostile_queries_are_inert(watched: Watched) -> None:
    for attack in ATTACKS:
        watched.goto(f"/documents/tiny?q={quote(attack, errors='surrogatepass')}")
        watched.goto(f"/documents/{quote(attack.replace('/', ''))}")
        watched.goto(f"/compare?run={quote(attack)}")
