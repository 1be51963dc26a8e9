"""The Dagster UI in a real headless browser, over the finished recipe `tiny`."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from urllib.parse import urlsplit

import dagster as dg
import pytest
from playwright.sync_api import Dialog, Page, expect, sync_playwright

from assets.reporting.report import samples
from assets.reporting.tables import figure, tables
from tests.hostile import TEMPLATES
from tests.integration.conftest import OLMO, World
from tests.processes import free_ports

pytestmark = pytest.mark.browser

QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 60_000  # ms


@pytest.fixture(scope="module")
def address(tiny: World) -> Iterator[str]:
    """The UI, served by `olmo ui` on a free port."""
    port, explorer_port = (str(number) for number in free_ports(2))
    command = [str(OLMO), "ui", "--port", port, "--explorer-port", explorer_port]
    process = subprocess.Popen(command, env=tiny.environment, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(f"{address}/server_info"):
            assert process.poll() is None, "olmo ui ended"
            assert time.monotonic() < deadline, "olmo ui does not answer"
            time.sleep(0.5)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with opened_page() as opened:
        yield opened


@contextlib.contextmanager
def opened_page() -> Generator[Page]:
    """A window of Debian's chromium."""
    chromium = shutil.which("chromium") or os.environ.get("CHROMIUM")
    assert chromium, "no chromium on the PATH: install Debian's package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        opened = browser.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)  # five seconds, if not said
        yield opened
        browser.close()


def test_the_graph_is_shown_and_nothing_pops_over_it(page: Page, address: str) -> None:
    page.goto(f"{address}/locations/pipelines.definitions/jobs/tiny")
    for group in ("tiny_corpus", "tiny_train"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    expect(page.get_by_text("View 20 assets")).to_be_visible()
    assert page.get_by_role("dialog").count() == 0


def test_a_finished_run_is_shown(page: Page, address: str) -> None:
    page.goto(f"{address}/runs")
    expect(page.get_by_text("Success").first).to_be_visible()


def test_the_landing_page_has_what_olmo_run_has_made(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("a[href='/locations/pipelines.definitions/jobs/tiny']")).to_be_visible()
    assert page.get_by_text("No runs or scheduled ticks").count() == 0


def test_the_lineage_shows_what_a_person_works_on(page: Page, address: str) -> None:
    page.goto(f"{address}/asset-groups")
    expect(page.get_by_text("tiny_train").first).to_be_visible()
    assert page.get_by_text("olmo_7b").count() == 0


def test_the_loss_curve_is_drawn_on_the_page_and_no_figure_is_plotted(
    page: Page, address: str
) -> None:
    page.goto(f"{address}/assets/tiny/stage1")
    row = page.get_by_role("row").filter(has_text="loss_curve").first
    picture = row.locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300
    for name in ("olmo_core/train/__main__.py", "tiny/stage1.yaml"):
        expect(page.locator(f"a[href*='{name}']")).to_be_visible()
    page.get_by_text("Plots", exact=True).click()
    expect(page.get_by_text("loss_curve")).to_have_count(0)
    assert page.get_by_text("loss_nats_per_token").count() == 0


def test_what_documents_say_is_shown_and_never_obeyed(
    page: Page, address: str, tiny: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tiny.root / "dagster"))
    values = [value for value in TEMPLATES if len(value) < 1000]
    metadata = {
        "short samples": samples(values[:2]),
        "hostile samples": samples(values),
        **tables("hostile", [{"id": value, "text": value} for value in values]),
        **{f"figure {number}": figure(value) for number, value in enumerate(values)},
    }
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(["hostile", "raw"], metadata=metadata)
        )
    asked, opened = set[str](), list[Dialog]()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("dialog", lambda dialog: opened.append(dialog))  # unanswered, the page stands still
    page.goto(f"{address}/assets/hostile/raw?view=events")
    expect(page.get_by_text("<script>alert(1)</script>").first).to_be_visible()
    page.get_by_role("row").filter(has_text="hostile samples").get_by_text("Show Markdown").click()
    shown = page.get_by_role("dialog")
    expect(shown.get_by_text("![x](http://canary.invalid/x.png)").first).to_be_visible()
    assert page.locator("img[src*='canary'], iframe, a[href*='canary']").count() == 0
    page.goto(f"{address}/assets/tiny/model_card")
    page.get_by_role("row").filter(has_text="card").get_by_text("Show Markdown").first.click()
    expect(page.get_by_role("dialog").get_by_text("Models and revisions")).to_be_visible()
    assert asked - {""} == {urlsplit(address).netloc}  # "" of pictures that are data
    assert opened == []


@pytest.mark.parametrize("asset", ["stage1", "leaderboard", "filtered", "perplexity"])
def test_no_table_is_cut_off_on_the_screen_of_a_laptop(
    page: Page, address: str, asset: str
) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{address}/assets/tiny/{asset}")
    found = page.locator("table table")
    expect(found.first).to_be_visible()
    for table in found.all():
        column = table.locator("xpath=ancestor::td[1]")
        inner, outer = table.bounding_box(), column.bounding_box()
        assert inner is not None
        assert outer is not None
        page_end = page.evaluate("window.innerWidth")
        assert inner["x"] + inner["width"] <= outer["x"] + outer["width"], table.inner_text()[:200]
        assert outer["x"] + outer["width"] < page_end
    page.set_viewport_size({"width": 1600, "height": 1000})


@pytest.mark.parametrize(
    ("asset", "name"), [("stage1", "loss_curve (large)"), ("filtered", "dropped by rule (bars)")]
)
def test_curves_and_bars_are_pictures(page: Page, address: str, asset: str, name: str) -> None:
    page.goto(f"{address}/assets/tiny/{asset}")
    page.get_by_role("row").filter(has_text=name).get_by_text("Show Markdown").click()
    picture = page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300


def test_the_table_of_sources_is_shown(page: Page, address: str, tiny: World) -> None:
    page.goto(f"{address}/assets/tiny/filtered")
    parts = page.locator("table table").filter(has_text="kept_share")
    expect(parts.first).to_be_visible()
    for row in tiny.show()["filtered"]["metadata"]["tables"]["sources"]:
        # Of few sources the table stands on its side, and they name its columns; of a wide one in
        # several parts.
        expect(parts.get_by_text(row["source"], exact=True).first).to_be_visible()


def test_materialize_all_reports_what_is_finished_again_in_one_run(
    page: Page, address: str, tiny: World
) -> None:
    before = (tiny.path("stage1") / "result.json").stat().st_mtime_ns
    page.goto(f"{address}/locations/pipelines.definitions/jobs/tiny")
    page.get_by_role("button", name="Materialize all").click()
    expect(page.get_by_text("Launched run").first).to_be_visible()
    page.goto(f"{address}/locations/pipelines.definitions/jobs/tiny/runs")
    expect(page.get_by_text("Success")).to_have_count(2, timeout=2 * PATIENCE)  # and `olmo run`'s
    assert (tiny.path("stage1") / "result.json").stat().st_mtime_ns == before
    page.goto(f"{address}/assets/tiny/soup")
    how = page.get_by_role("row").filter(has_text="how").filter(has_text="finished before")
    expect(how.first).to_be_visible()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
