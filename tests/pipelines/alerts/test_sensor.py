"""The sensor as Dagster's daemon evaluates it: off by default, each event once, no secret shown."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from olmo_core.errors import ConfigError
from olmo_core.files import write_json
from pipelines.alerts import sensor as module
from pipelines.alerts.sensor import NAME, Memory, alert_sensor
from pipelines.cli.send_alert import send_test
from pipelines.definitions import assembled, build_definitions
from pipelines.launchers.router import site_launcher
from pipelines.site.file import AlertsSite, Site, SiteError, load_site
from tests.pipelines.alerts.webhook_server import DROP, SECRET, Webhook

SITE = AlertsSite(url_variable="HOOK")


@pytest.fixture
def instance(toy_root: Path) -> Iterator[dg.DagsterInstance]:
    toy_root.mkdir()
    with dg.instance_for_test() as opened:
        yield opened


class Daemon:
    """Evaluates the sensor, keeps its cursor, and has a clock of its own."""

    def __init__(self, instance: dg.DagsterInstance, patch: pytest.MonkeyPatch) -> None:
        self.instance, self.cursor, self.late = instance, None, 0.0
        self.log: list[str] = []
        patch.setattr(module, "current_time", lambda: time.time() + self.late)

    def tick(self, site: AlertsSite | None = SITE) -> str:
        made = dg.Definitions(sensors=[alert_sensor(site)])
        repository = assembled(made, launcher=site_launcher(Site())).get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=repository,
            resources={"launcher": site_launcher(Site())},
        )
        data = repository.get_sensor_def(NAME).evaluate_tick(context)
        assert not data.run_requests
        self.cursor = data.cursor
        return str(data.skip_message)


@pytest.fixture
def daemon(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    return Daemon(instance, monkeypatch)


def fail_check(instance: dg.DagsterInstance, said: str) -> None:
    @dg.asset(key=["demo", "stage1"])
    def stage1() -> None: ...

    @dg.asset_check(asset=stage1, blocking=True)
    def loss_fell() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=said)

    dg.materialize([stage1, loss_fell], instance=instance, raise_on_error=False)


def spike(root: Path, step: int) -> None:
    folder = root / "demo" / "stage1" / "0123456789ab"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "launch.json", {"schema_version": 1, "engine": "local"})
    # Somebody has stopped it since.
    write_json(folder / "status.json", {"schema_version": 1, "state": "stopped", "attempt": 1})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "spike/loss": 1}) + "\n")


def test_it_is_off_without_a_section_and_runs_with_one() -> None:
    assert alert_sensor(None).default_status == dg.DefaultSensorStatus.STOPPED
    assert alert_sensor(SITE).default_status == dg.DefaultSensorStatus.RUNNING


def test_without_a_section_nothing_is_sent(daemon: Daemon, webhook: Webhook) -> None:
    fail_check(daemon.instance, "bad")
    assert "no section alerts" in daemon.tick(None)
    assert webhook.seen == []


def test_there_is_one_sensor_for_all_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(Path(__file__).parents[2] / "recipes"))
    repository = build_definitions(["tiny", "demo"]).get_repository_def()
    assert [each.name for each in repository.sensor_defs].count(NAME) == 1


def test_events_of_folders_and_of_dagster_are_sent_once_whatever_the_webhook_does(
    daemon: Daemon, toy_root: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", webhook.url)
    assert daemon.tick() == "0 sent"
    webhook.then(500, DROP, 429)
    spike(toy_root, 7)
    assert "HTTP 500" in daemon.tick()
    fail_check(daemon.instance, "loss 3.1 → 3.2")
    assert "pause" in daemon.tick()  # what happens meanwhile is kept
    for _ in range(2):
        daemon.late += 1000
        assert "2 messages wait" in daemon.tick()
    daemon.late += 1000
    assert daemon.tick() == "2 sent"
    assert daemon.tick() == "0 sent"
    assert [body["kind"] for body in webhook.taken] == ["loss_spike", "check_failed"]
    assert "loss 3.1 → 3.2" in webhook.texts()[1]
    assert Memory.load(daemon.cursor).outbox.waiting == []


def test_a_blocking_check_is_told_once_although_its_run_fails_too(
    daemon: Daemon, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", webhook.url)
    daemon.tick()
    fail_check(daemon.instance, "bad")
    daemon.tick()
    assert [body["kind"] for body in webhook.taken] == ["check_failed"]


def test_slack_gets_its_form(
    daemon: Daemon, toy_root: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", webhook.url)
    slack = AlertsSite(url_variable="HOOK", format="slack")
    daemon.tick(slack)
    spike(toy_root, 7)
    daemon.tick(slack)
    assert [set(body) for body in webhook.taken] == [{"text"}]


def test_without_its_variable_events_are_kept(
    daemon: Daemon, toy_root: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.tick()
    spike(toy_root, 7)
    assert "1 wait: alerts.url_variable: HOOK is not set" in daemon.tick()
    monkeypatch.setenv("HOOK", webhook.url)
    assert daemon.tick() == "1 sent"


def test_the_address_is_in_no_cursor_log_or_database(
    daemon: Daemon,
    toy_root: Path,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HOOK", webhook.url)
    said = [daemon.tick()]
    webhook.then(500, DROP)
    spike(toy_root, 7)
    for _ in range(3):
        daemon.late += 1000
        said.append(daemon.tick())
    assert len(webhook.seen) == 3
    for text in (*said, daemon.cursor or "", caplog.text):
        assert "canary" not in text
    files = [
        path
        for path in (toy_root, Path(daemon.instance.root_directory))
        for path in path.rglob("*")
    ]
    content = [path.read_bytes() for path in files if path.is_file()]
    assert content
    assert not any(SECRET.encode() in each for each in content)


def test_a_cursor_of_another_version_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="reset the cursor"):
        Memory.load('{"schema_version": 99}')


def test_the_site_file_takes_a_variable_and_never_shows_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.yaml"
    monkeypatch.setenv("OLMO_SITE", str(path))
    path.write_text("alerts: {url_variable: OLMO_ALERTS_URL, format: slack, stall_minutes: 5}\n")
    assert load_site().alerts == AlertsSite(
        url_variable="OLMO_ALERTS_URL", format="slack", stall_minutes=5
    )
    for wrong in (
        f"alerts: {{url_variable: 'https://hooks.example.org/{SECRET}'}}\n",
        f"alerts: {{url: 'https://hooks.example.org/{SECRET}'}}\n",
        f"alerts: 'https://hooks.example.org/{SECRET}'\n",
        f"alerts: {{url_variable: ['https://hooks.example.org/{SECRET}']}}\n",
        f"alerts: {{'https://hooks.example.org/{SECRET}': 5}}\n",
        f"alerts: {{url_variable: 'hooks.example.org/{SECRET}'}}\n",
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"site\.yaml:1: alerts") as caught:
            load_site()
        assert "canary" not in str(caught.value)
    with pytest.raises(SiteError, match="stall_minutes"):
        Site(alerts=AlertsSite(url_variable="HOOK", stall_minutes=0))


def test_a_test_message_tells_whether_it_arrived(
    webhook: Webhook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("{}\n")
    monkeypatch.setenv("OLMO_SITE", str(path))
    with pytest.raises(ConfigError, match="no section alerts"):
        send_test()
    path.write_text("alerts: {url_variable: HOOK}\n")
    with pytest.raises(ConfigError, match="HOOK is not set"):
        send_test()
    monkeypatch.setenv("HOOK", webhook.url)
    assert send_test() == 0
    assert [body["kind"] for body in webhook.taken] == ["test"]
    webhook.then(404)
    assert send_test() == 1
    shown = capsys.readouterr()
    assert "delivered to the webhook of HOOK" in shown.out
    assert "HTTP 404" in shown.err
    assert "canary" not in shown.out + shown.err
