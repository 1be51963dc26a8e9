"""A job in progress, in the Dagster UI in a real headless browser: shown, and cancelled by a click."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.integration.test_ui import opened_page
from tests.pipelines.production import Production, are_gone, members, wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.browser]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with opened_page() as opened:
        yield opened


def test_the_asset_of_a_job_in_progress_shows_how_it_goes(
    page: Page, production: Production
) -> None:
    run = production.launch(0)
    members(production, 0)
    page.goto(f"http://127.0.0.1:{production.web_port}/assets/toy0/first?view=events")
    page.screenshot(path="/tmp/lab/ui_events0.png")
    time.sleep(9)
    page.reload()
    time.sleep(6)
    page.screenshot(path="/tmp/lab/ui_events.png")
    page.goto(f"http://127.0.0.1:{production.web_port}/assets/toy0/first")
    time.sleep(6)
    page.screenshot(path="/tmp/lab/ui_asset.png")
    page.goto(f"http://127.0.0.1:{production.web_port}/runs/{run}")
    time.sleep(6)
    page.screenshot(path="/tmp/lab/ui_run.png")
    page.goto(f"http://127.0.0.1:{production.web_port}/locations/pipelines.definitions/jobs/toy0")
    time.sleep(6)
    page.screenshot(path="/tmp/lab/ui_graph.png")


def test_terminate_ends_the_job(page: Page, production: Production) -> None:
    run = production.launch(1)
    job = members(production, 1)
    page.goto(f"http://127.0.0.1:{production.web_port}/runs/{run}")
    page.get_by_role("button", name="Terminate").first.click()
    time.sleep(2)
    page.screenshot(path="/tmp/lab/ui_terminate.png")
    page.get_by_role("dialog").get_by_role("button", name="Terminate").last.click()
    wait_for(lambda: are_gone(job), "the job's end", 10)
    production.wait_status(run, "CANCELED")
    page.screenshot(path="/tmp/lab/ui_terminated.png")
