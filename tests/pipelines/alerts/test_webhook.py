"""Posting to a real server: what is taken, what is not, and that no error tells the address."""

import json
import logging
import traceback

import pytest

from olmo_core.errors import ConfigError
from pipelines.alerts import webhook as module
from pipelines.alerts.message import alert, body
from pipelines.alerts.outbox import MOST_PAUSE_SECONDS, MOST_SECONDS, Outbox
from pipelines.alerts.webhook import NotDelivered, post, webhook_url
from tests.pipelines.alerts.conftest import made
from tests.pipelines.alerts.webhook_server import DROP, HOLD, SECRET, Answer, Webhook
from tests.processes import free_ports


def closed_port() -> int:
    [port] = free_ports(1)
    return port


def failure(url: str) -> NotDelivered:
    """How a post fails; nothing of its error may show the secret."""
    with pytest.raises(NotDelivered) as caught:
        post(url, body(made(), "json"), key="k")
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert SECRET not in shown
    assert "canary" not in shown
    return error


def test_a_message_has_all_that_a_person_asks(webhook: Webhook) -> None:
    sent = made(1200)
    post(webhook.url, body(sent, "json"), key=sent.id)
    [got] = webhook.taken
    assert (got["kind"], got["recipe"], got["asset"]) == ("loss_spike", "demo", "stage1")
    assert (got["run"], got["step"], got["seen"]) == ("0123456789ab", 1200, "loss 1200")
    assert got["look"] == "olmo logs demo stage1"
    assert got["id"] == sent.id
    assert webhook.seen == [(f"/services/{SECRET}", sent.id)]
    for word in ("demo/stage1", "0123456789ab", "step 1,200", "loss 1200", "olmo logs"):
        assert word in got["text"]


def test_slack_gets_its_own_form_in_which_nothing_is_a_link() -> None:
    sent = alert("test", recipe="a", asset="b", seen="<!channel> 1 < 2 & 3", look="x", time=0.0)
    content = json.loads(body(sent, "slack"))
    assert set(content) == {"text"}
    assert "&lt;!channel&gt; 1 &lt; 2 &amp; 3" in content["text"]
    assert "<" not in content["text"]


def test_what_was_seen_shows_no_secrets_and_ends() -> None:
    said = alert(
        "job_failed",
        recipe="a",
        asset="b",
        seen="https://user:pass@host/x?token=abc " + "x" * 9000,
        look="",
        time=0.0,
    ).seen
    assert "pass" not in said
    assert "abc" not in said
    assert len(said) < 2000


@pytest.mark.parametrize(
    ("answer", "says", "wait_seconds", "refused"),
    [
        (500, "HTTP 500", 0.0, False),
        ((503, {"Retry-After": "7"}), "HTTP 503", 7.0, False),
        ((429, {"Retry-After": "120"}), "HTTP 429", 120.0, False),
        (404, "HTTP 404", 0.0, True),
        ((302, {"Location": "http://127.0.0.1:1/elsewhere"}), "HTTP 302", 0.0, True),
        (DROP, "dropped the connection", 0.0, False),
    ],
    ids=["500", "503", "429", "404", "redirect", "dropped"],
)
def test_what_is_not_taken_is_known(
    webhook: Webhook, answer: Answer, says: str, wait_seconds: float, refused: bool
) -> None:
    webhook.then(answer)
    error = failure(webhook.url)
    assert says in str(error)
    assert (error.wait_seconds, error.refused) == (wait_seconds, refused)
    assert len(webhook.seen) == 1  # nothing is tried twice, and no redirect followed
    assert not webhook.taken


def test_a_server_that_is_not_there_or_silent_holds_nobody_up(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "connected" in str(failure(f"http://127.0.0.1:{closed_port()}/services/{SECRET}"))
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
    webhook.then(HOLD)
    assert "did not answer" in str(failure(webhook.url))


def test_no_log_shows_the_address(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    post(webhook.url, b"{}", key="k")
    webhook.then(500)
    failure(webhook.url)
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        "",
        "hooks.example.org/canary",
        "ftp://h/canary",
        "https://",
        "https://[::1/canary",
        "https:/ /",
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HOOK", value)
    with pytest.raises(ConfigError, match="HOOK") as caught:
        webhook_url("HOOK")
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def send(outbox: Outbox, hook: Webhook, now: float) -> str:
    return outbox.send(
        lambda one: post(hook.url, body(one, "json"), key=one.id), now=now, clock=lambda: 0.0
    )


def test_a_webhook_that_is_down_gets_everything_once_and_in_order(webhook: Webhook) -> None:
    outbox = Outbox()
    outbox.add(made(number) for number in (1, 2, 3))
    webhook.then(200, 500, DROP, (429, {"Retry-After": "300"}))
    assert send(outbox, webhook, 0.0).startswith("1 sent; 2 messages wait: webhook: HTTP 500")
    assert "pause" in send(outbox, webhook, 59.0)  # the next tick: nothing is asked of it
    assert len(webhook.seen) == 2
    outbox.add([made(4)])
    assert send(outbox, webhook, 60.0).startswith("0 sent; 3 messages wait")  # dropped: 120 s
    assert "pause" in send(outbox, webhook, 179.0)
    assert send(outbox, webhook, 180.0).startswith("0 sent; 3 messages wait")  # 429: 300 s
    assert "pause" in send(outbox, webhook, 479.0)
    assert send(outbox, webhook, 480.0) == "3 sent"
    assert [body["step"] for body in webhook.taken] == [1, 2, 3, 4]
    assert outbox == Outbox(not_before=480.0)


def test_one_that_is_always_refused_holds_up_no_other(webhook: Webhook) -> None:
    outbox = Outbox()
    outbox.add(made(number) for number in (1, 2))
    webhook.then(400, 200, 400)
    assert "HTTP 400" in send(outbox, webhook, 0.0)
    assert "HTTP 400" in send(outbox, webhook, 60.0)
    assert [body["step"] for body in webhook.taken] == [2]
    assert send(outbox, webhook, 120.0) == "1 sent"
    assert [body["step"] for body in webhook.taken] == [2, 1]


def test_the_pause_is_bounded_and_so_is_the_time_of_a_tick() -> None:
    outbox = Outbox()
    outbox.add(made(number) for number in range(100))

    def down(_: object) -> None:
        raise NotDelivered("down")

    now = 0.0
    for _ in range(20):
        now = outbox.not_before
        outbox.send(down, now=now, clock=lambda: 0.0)
    assert outbox.not_before - now == MOST_PAUSE_SECONDS
    assert len(outbox.waiting) == 100
    ticks = iter(range(1000))
    said = outbox.send(lambda _: None, now=1e9, clock=lambda: 3.0 * next(ticks))
    assert said == "3 sent; 97 messages wait"  # after 0, 3 and 6 s; at 12 s it is over
    assert MOST_SECONDS == 10.0
