"""Training that leaves a test time to disturb it: `python -m tests.slurm.paced_training CONFIG`.

Each step takes at least the seconds that a file `pace` beside the run folder says; without the file
it is training as it is. Nothing of what is computed changes. A file `wandb_url` there is what W&B,
which no test can reach, would have answered.
"""

import time
from typing import Any

from olmo_core.monitor.tracking import Tracker
from olmo_core.train.__main__ import main
from olmo_core.train.trainer import Trainer

_forward_backward = Trainer._forward_backward
_fit = Trainer.fit


def paced(self: Trainer, *arguments: Any) -> None:
    pace = self.config.save_folder.parent / "pace"
    if pace.exists():
        time.sleep(float(pace.read_text() or 0))
    _forward_backward(self, *arguments)


def fit(self: Trainer, tracker: Tracker) -> None:
    answer = self.config.save_folder.parent / "wandb_url"
    if answer.exists():
        setattr(Tracker, "url", answer.read_text())  # noqa: B010 (for the type checker)
    _fit(self, tracker)


if __name__ == "__main__":
    setattr(Trainer, "_forward_backward", paced)  # noqa: B010
    setattr(Trainer, "fit", fit)  # noqa: B010
    main()
