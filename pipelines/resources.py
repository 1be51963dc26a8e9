"""What the graph runs with on this machine: the engine, and who is told of progress."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from assets.launcher import Launcher, Observer
from assets.materialise import LogObserver
from pipelines.launchers.router import site_launcher

ObserverFactory = Callable[[dg.DagsterLogManager], Observer]


def resources(
    *, launcher: Launcher | None = None, observer: ObserverFactory = LogObserver
) -> dict[str, Any]:
    """The resources that every asset asks for; the site's engines and Dagster's log by default."""
    return {
        "launcher": dg.ResourceDefinition.hardcoded_resource(launcher or site_launcher()),
        "observer": dg.ResourceDefinition.hardcoded_resource(observer),
    }
