"""The nodes of one job where nothing starts them together: `python -m olmo_core.supervisor.gang`.

Slurm's srun starts every node's processes and fails when one of them does. Pods are started one by
one, are lost one by one, and come back. This runs in each of them, from its beginning to its end:

- on the first node it waits until all others are there and runs the supervisor;
- under the supervisor (`--attempt`) it starts the attempt on all nodes at once, and fails when one
  of them fails or is lost: its exit code is then the job's;
- on every other node it waits for the supervisor's attempts, takes part in each, and leaves when
  the supervisor has given up or is done.

They talk through files in `log/gang`: each node's says that it lives, and how its part has ended;
`go.json` says who takes part in which attempt. Only that a file changes counts: clocks differ.
"""

import argparse
import os
import signal
from pathlib import Path

from olmo_core.environment import ATTEMPT
from olmo_core.run.folder import RunFolder
from olmo_core.supervisor.gang.first import first, lead
from olmo_core.supervisor.gang.follower import Follower
from olmo_core.supervisor.gang.plan import read_plan
from olmo_core.supervisor.gang.process import WATCHED, logged

NODE_RANK = ("OLMO_NODE_RANK", "JOB_COMPLETION_INDEX")


def main(arguments: list[str] | None = None) -> None:
    """Run this node's part of a job to its end."""
    parser = argparse.ArgumentParser(
        prog="python -m olmo_core.supervisor.gang",
        description="Keep the nodes of a job together where nothing else does.",
        epilog=f"Which node this is: the first of {', '.join(NODE_RANK)} that is set; else 0.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--attempt", action="store_true", help="lead one attempt; the supervisor's")
    options = parser.parse_args(arguments)
    folder = RunFolder(options.folder.absolute())
    # From here on they are waited for, never delivered: none can come at a wrong moment.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    plan = read_plan(folder)
    rank = int(next((os.environ[name] for name in NODE_RANK if name in os.environ), "0"))
    if options.attempt:
        raise SystemExit(lead(folder, plan, int(os.environ[ATTEMPT])))
    log = plan.log if rank == 0 else f"log/attempt{plan.submission}.node{rank}.log"
    with logged(folder.path / log):
        code = first(folder, plan) if rank == 0 else Follower(folder, plan, rank).run()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
