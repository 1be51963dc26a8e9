"""`olmo alerts test`: whether messages reach the webhook, asked without waiting for a failure."""

import socket
import sys
import time

from olmo_core.errors import ConfigError
from pipelines.alerts.message import alert, body
from pipelines.alerts.webhook import NotDelivered, post, webhook_url
from pipelines.site.file import load_site


def send_test() -> int:
    """Send one message; return the exit code: 0 if the webhook has taken it, else 1.

    Raises:
        ConfigError: the site file or the environment does not say where to.
    """
    site = load_site().alerts
    if site is None:
        raise ConfigError("the site file has no section alerts; add one (docs/alerts.md)")
    url = webhook_url(site.url_variable)
    message = alert(
        "test",
        recipe="no recipe",
        asset="no asset",
        seen=f"olmo alerts test, on {socket.gethostname()}",
        look="docs/alerts.md",
        time=time.time(),
    )
    try:
        post(url, body(message, site.format), key=message.id)
    except NotDelivered as error:
        print(f"olmo: not delivered: {error}", file=sys.stderr)
        return 1
    print(f"delivered to the webhook of {site.url_variable}, as {site.format}")
    return 0
