"""The sensor that watches all recipes and sends alerts; there is only this one."""

import json
import time
from dataclasses import asdict, dataclass, field

import dagster as dg

from assets.launcher import Launcher
from assets.paths import root
from olmo_core.errors import ConfigError
from pipelines.alerts.folders import Folders, Watched
from pipelines.alerts.message import Alert, body
from pipelines.alerts.metrics import Reading
from pipelines.alerts.outbox import Outbox
from pipelines.alerts.runs import Runs
from pipelines.alerts.webhook import post, webhook_url
from pipelines.site.file import AlertsSite

NAME = "alerts"
INTERVAL_SECONDS = 60
SCHEMA_VERSION = 1  # of the cursor

current_time = time.time


@dataclass(kw_only=True)
class Memory:
    """What is known from tick to tick; Dagster keeps it as the sensor's cursor."""

    folders: Folders = field(default_factory=Folders)
    runs: Runs = field(default_factory=Runs)
    outbox: Outbox = field(default_factory=Outbox)

    @classmethod
    def load(cls, cursor: str | None) -> "Memory":
        """Return what a cursor holds.

        Raises:
            ConfigError: another version has written it.
        """
        if not cursor:
            return cls()
        content = json.loads(cursor)
        if content.pop("schema_version", None) != SCHEMA_VERSION:
            raise ConfigError(
                f"cursor of the sensor {NAME}: expected schema_version {SCHEMA_VERSION}; reset the "
                "cursor in the UI: what has happened until then is not told"
            )
        watched = {
            key: Watched(**{**each, "reading": Reading(**each["reading"])})
            for key, each in content["folders"].pop("watched").items()
        }
        return cls(
            folders=Folders(watched=watched, **content["folders"]),
            runs=Runs(**content["runs"]),
            outbox=Outbox(**content["outbox"]),
        )

    def dump(self) -> str:
        """Return the cursor."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)})


def alert_sensor(site: AlertsSite | None) -> dg.SensorDefinition:
    """Return the sensor `alerts`, which runs by itself where the site file has such a section."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if site else dg.DefaultSensorStatus.STOPPED,
        description="Sends failed checks and jobs, spikes and stalls of all recipes to a webhook.",
    )
    def watch(
        context: dg.SensorEvaluationContext, launcher: dg.ResourceParam[Launcher]
    ) -> dg.SensorResult | dg.SkipReason:
        if site is None:
            return dg.SkipReason("the site file has no section alerts (docs/alerts.md)")
        memory, now = Memory.load(context.cursor), current_time()
        found, troubles = memory.folders.look(
            root(), launcher, stall_seconds=60 * site.stall_minutes, now=now
        )
        memory.outbox.add(found)
        memory.outbox.add(memory.runs.look(context.instance, now=now))
        for trouble in troubles:
            context.log.warning(f"not looked at: {trouble}")
        said = _send(memory.outbox, site, now)
        return dg.SensorResult(skip_reason=said, cursor=memory.dump())

    return watch


def _send(outbox: Outbox, site: AlertsSite, now: float) -> str:
    """Send what waits; return in words how that went."""
    try:
        url = webhook_url(site.url_variable)
    except ConfigError as error:
        return f"nothing is sent, {len(outbox.waiting)} wait: {error}"

    def deliver(one: Alert) -> None:
        post(url, body(one, site.format), key=one.id)

    return outbox.send(deliver, now=now, clock=time.monotonic)
