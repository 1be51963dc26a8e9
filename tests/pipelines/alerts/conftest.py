"""A webhook, and an alert to send to it."""

from collections.abc import Iterator

import pytest

from pipelines.alerts.message import Alert, alert
from tests.pipelines.alerts.webhook_server import Webhook, running_webhook


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as hook:
        yield hook


def made(number: int = 1) -> Alert:
    return alert(
        "loss_spike",
        recipe="demo",
        asset="stage1",
        run="0123456789ab",
        step=number,
        seen=f"loss {number}",
        look="olmo logs demo stage1",
        time=float(number),
    )
