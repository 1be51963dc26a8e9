"""A job in progress, in the Dagster UI in a real browser: shown, and cancelled by a click."""

from collections.abc import Iterator

import pytest
from dagster import DagsterEventType
from playwright.sync_api import Page, expect

from tests.integration.test_ui import opened_page
from tests.pipelines.kills import CANCEL_SECONDS, are_gone, members
from tests.pipelines.production import Production, wait_for

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
    wait_for(lambda: _observed(production, run), "the first observation")
    page.goto(f"http://127.0.0.1:{production.web_port}/assets/toy0/first")
    row = page.get_by_role("row").filter(has_text="progress")
    expect(row.get_by_text("1 of 2 things").first).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="state").first).to_contain_text("running")
    page.get_by_role("row").filter(has_text="log_end").get_by_text("Show Markdown").click()
    expect(page.get_by_role("dialog").get_by_text("line 299")).to_be_visible()
    production.open_gate(0)
    production.wait_status(run, "SUCCESS")


def _observed(production: Production, run: str) -> bool:
    return bool(production.instance.all_logs(run, of_type=DagsterEventType.ASSET_OBSERVATION))


def test_the_button_terminate_ends_the_job(page: Page, production: Production) -> None:
    run = production.launch(1)
    job = members(production, 1)
    page.goto(f"http://127.0.0.1:{production.web_port}/runs/{run}")
    page.get_by_role("button", name="Terminate").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").last.click()
    wait_for(lambda: are_gone(job), "the job's end", CANCEL_SECONDS)
    production.wait_status(run, "CANCELED")
