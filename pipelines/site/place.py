"""On what a job runs here, as its forecast wants to know it."""

import os

from assets.launcher import Launch
from olmo_core.forecast.figures import Place
from pipelines.site.file import Site


def place_of(site: Site, launch: Launch) -> Place:
    """Return the devices, cores and prices of a launch's work, by the site file.

    The local engine gives a job the cores that this process may use, where the file says nothing.
    """
    work = site.work_of(launch)
    nodes = work.nodes + work.workers
    cores = work.cpus_per_node
    if cores is None and work.engine == "local":
        cores = len(os.sched_getaffinity(0))
    return Place(
        devices=work.nodes * (work.devices_per_node or work.processes_per_node),
        nodes=nodes,
        cores=cores,
        gpus=work.devices_per_node > 0,
        device=work.device or "",
        energy=site.energy,
        prices=site.prices,
    )
