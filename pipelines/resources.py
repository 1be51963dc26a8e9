"""What the graph runs with on this machine: the engine, and who is told of progress."""

from typing import Any

import dagster as dg

from assets.execution.materialise import ObserverFactory
from assets.launcher import Launcher
from assets.reporting.observe import DagsterObserver
from pipelines.launchers.router import site_launcher


def resources(
    *, launcher: Launcher | None = None, observer: ObserverFactory = DagsterObserver
) -> dict[str, Any]:
    """Return what every asset asks for; by default the site's engines, and Dagster is told."""
    return {
        "launcher": dg.ResourceDefinition.hardcoded_resource(launcher or site_launcher()),
        "observer": dg.ResourceDefinition.hardcoded_resource(observer),
    }
