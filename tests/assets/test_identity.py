"""Which edits of the code make which assets of `demo` stale: real edits on a copy of the tree.

`demo_code.txt` lists the modules that count for each job. After a change that is meant:
`python -m tests.assets.test_identity > tests/assets/demo_code.txt`.
"""

import inspect
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from assets.assemble import build_graph
from assets.fingerprint import differences
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.config.load import build, to_dict
from olmo_core.config.train import CoreConfig, TrainConfig, identity
from olmo_core.run import code
from olmo_core.run.code import NEVER_COUNTS, PACKAGE_ROOT, counts, sources

SNAPSHOT = Path(__file__).with_name("demo_code.txt")

RAISE = r'(raise \w+\(\s*f?")'
LOG = r'(\blog\.\w+\(\s*f?")'
PROGRESS = r'(\bmessage=f?")'
TIMED = r'(\bjob\.timed\(")'
TEXT = r'(^    (?:"""|"))'  # any first text of a line: a docstring, a table's key

# Edits of words: all texts of a kind in a file begin otherwise.
WORDS = [
    ("olmo_core/corpus/document.py", RAISE),
    ("olmo_core/corpus/intake/user_files.py", RAISE),
    ("olmo_core/corpus/duplicates/held_out.py", RAISE),
    ("olmo_core/corpus/filters/tagged.py", TIMED),
    ("olmo_core/corpus/filters/filtered.py", TIMED),
    ("olmo_core/corpus/tokens/tokens.py", TIMED),
    ("olmo_core/data/order.py", RAISE),
    ("olmo_core/train/restore.py", LOG),
    ("olmo_core/train/trainer.py", LOG),
    ("olmo_core/train/trainer.py", RAISE),
    ("olmo_core/checkpoint/save.py", LOG),
    ("olmo_core/checkpoint/soup.py", RAISE),
    ("olmo_core/evals/perplexity/unigram.py", PROGRESS),
    ("olmo_core/monitor/devices.py", TEXT),  # the table of peak FLOP/s
    ("olmo_core/monitor/metrics.py", r'(")(?=throughput/|train/|optim/)'),  # names of metrics
    ("olmo_core/monitor/dry_run.py", TEXT),
    ("olmo_core/remote/cache.py", LOG),
    ("olmo_core/supervisor/supervise.py", TEXT),
    ("olmo_core/run/job.py", TEXT),
    ("olmo_core/evals/task_sources.py", r'(file=")'),  # the rows' values are in the fingerprint
    ("olmo_core/config/paths.py", r'(else f")'),
    ("olmo_core/data/check.py", LOG),
    ("olmo_core/train/__main__.py", r'(\bhelp=")'),
    ("pipelines/launchers/slurm/script.py", TEXT),
    ("pipelines/launchers/kubernetes/manifests.py", TEXT),
]

TRAINING = {"stage1", "stage2_ingredient1", "stage2_ingredient2", "stage2_ingredient3"}
MIXES = {"stage1_mix", "stage2_mix"}

# Edits of meaning: file, text, another; the assets whose jobs run it, and what is named.
MEANING = [
    (
        "olmo_core/corpus/duplicates/held_out.py",
        "round(config.share * documents)",
        "int(config.share * documents)",
        {"held_out"},
        "function wanted",
    ),
    (
        "olmo_core/corpus/duplicates/near_duplicates.py",
        "threshold: float = above(0, at_most=1, default=0.7)",
        "threshold: float = above(0, at_most=1, default=0.8)",
        {"near_duplicates"},
        "class NearDuplicateConfig",
    ),
    (
        "olmo_core/corpus/duplicates/contamination.py",
        "_BLOCK = 1 << 20",
        "_BLOCK = 1 << 21",
        {"decontaminated"},
        "top level",
    ),
    (
        "olmo_core/corpus/filters/rules.py",
        "value > self._bound()",
        "value >= self._bound()",
        {"filtered"},
        "function Rule.drops",
    ),
    (
        "olmo_core/corpus/tokens/encoder.py",
        "slow, add_special_tokens=False",
        "slow, add_special_tokens=True",
        {"tokens"},
        "function Encoder.encode",
    ),
    (
        "olmo_core/corpus/tokens/mix.py",
        "size * weight / whole for",
        "size * weight // whole for",
        MIXES,
        "function wanted_tokens",
    ),
    (
        "olmo_core/data/order.py",
        "mixed >> np.uint64(31)",
        "mixed >> np.uint64(32)",
        TRAINING | MIXES,
        "function _mixed",
    ),
    (
        "olmo_core/optim/schedule.py",
        "(1 + math.cos(math.pi * done)) / 2",
        "(1 + math.cos(math.pi * done**2)) / 2",
        TRAINING,
        "function Schedule._decay",
    ),
    (
        "olmo_core/config/optim.py",
        "eps: float = above(0, default=1e-5)",
        "eps: float = above(0, default=1e-6)",
        TRAINING,
        "class OptimizerConfig",
    ),
    (
        "olmo_core/train/guard.py",
        "config.sigma * deviation",
        "config.sigma + deviation",
        TRAINING,
        "function Guard._is_spike",
    ),
    (
        "olmo_core/train/restore.py",
        "state.origin = state.step",
        "state.origin = 0",
        TRAINING,
        "function restore",
    ),
    (
        "olmo_core/model/norm.py",
        "import torch\n",
        "import torch\n\nEPSILON = 1e-3\n",
        {*TRAINING, "export", "perplexity", "downstream"},
        "top level",
    ),
    (
        "olmo_core/checkpoint/soup.py",
        "total / len(files)",
        "total / (len(files) + 1)",
        {"soup", "export"},
        "function average",
    ),
    (
        "olmo_core/evals/perplexity/scoring.py",
        "(picked - normaliser)",
        "(picked + normaliser)",
        {"perplexity"},
        "function _log_probability",
    ),
    (
        "olmo_core/evals/perplexity/paloma.py",
        "-self.log_likelihood / count",
        "self.log_likelihood / count",
        {"perplexity"},
        "function Sums.figures",
    ),
    (
        "olmo_core/evals/harness.py",
        "FEWSHOT_SEED = 1234",
        "FEWSHOT_SEED = 4321",
        {"downstream"},
        "top level",
    ),
    (
        "olmo_core/evals/task_files.py",
        "return merged | content",
        "return content | merged",
        {"downstream"},
        "function read_task",
    ),
    (
        "olmo_core/evals/results.py",
        "select * from leaderboard",
        "select distinct * from leaderboard",
        {"model_card"},
        "function leaderboard_rows",
    ),
]


@pytest.fixture(scope="module")
def demo() -> Graph:
    """The graph of `demo`; what lies outside of the code is looked at once."""
    return build_graph(load_recipe("demo")).looked_at_once()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[Path]:
    """A copy of the tree, whose code is the one that is hashed."""
    for folder in ("olmo_core", "pipelines/launchers"):
        shutil.copytree(
            PACKAGE_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    monkeypatch.setattr(code, "PACKAGE_ROOT", tmp_path)
    sources.cache_clear()
    yield tmp_path
    sources.cache_clear()


Records = dict[str, dict[str, object]]


def records(graph: Graph) -> Records:
    sources.cache_clear()
    fingerprints = replace(graph).fingerprints  # a graph keeps the first that it has computed
    return {name: fingerprint.record() for name, fingerprint in fingerprints.items()}


def stale(before: Records, after: Records) -> set[str]:
    return {name for name in before if before[name]["fingerprint"] != after[name]["fingerprint"]}


def edit(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    changed = change(text)
    assert changed != text, f"{path}: the text to edit is not there any more; choose another"
    path.write_text(changed)


def descendants(graph: Graph, names: set[str]) -> set[str]:
    found = set(names)
    for name, node in graph.nodes.items():
        if found & set(node.inputs):
            found.add(name)
    return found


def test_edits_of_words_and_of_what_only_watches_make_nothing_stale(
    demo: Graph, copy: Path
) -> None:
    modules = [file.removesuffix(".py").replace("/", ".") for file, _ in WORDS]
    assert len(WORDS) >= 20
    assert sum(counts(name) and name.startswith("olmo_core") for name in modules) >= 10
    before = records(demo)
    for file, pattern in WORDS:
        edit(copy / file, lambda text, p=pattern: re.sub(p, r"\1Edited ", text, flags=re.M))
    after = records(demo)
    named = {name: differences(before[name], after[name]) for name in stale(before, after)}
    assert named == {}


def test_edits_of_evaluation_keep_training_fresh(demo: Graph, copy: Path) -> None:
    """Training reaches all of it through `train.in_loop`, and none of it decides a weight."""
    assert "olmo_core.evals" in (copy / "olmo_core/train/in_loop.py").read_text()
    files = sorted((copy / "olmo_core/evals").rglob("*.py"))
    # The corpus is searched for the questions that these two read.
    read_by_decontamination = {"task_files.py", "task_rows.py"}
    files = [path for path in files if path.name not in {"__init__.py", *read_by_decontamination}]
    assert len(files) >= 20
    before = records(demo)
    for path in (
        *files,
        copy / "olmo_core/train/in_loop.py",
        copy / "olmo_core/config/evaluators.py",
    ):
        edit(path, lambda text: f"{text}\n\nEDITED = 1\n")
    found = stale(before, records(demo))
    assert not found & {*TRAINING, "tokens", "export"}
    assert {"perplexity", "downstream"} <= found


def test_evaluators_are_no_part_of_what_is_trained() -> None:
    plain = load_recipe("demo").stage1_config()
    evaluators = [{"label": "piqa", "type": "downstream"}]
    values = to_dict(plain) | {"eval_interval": 5, "evaluators": evaluators}
    values["core"] |= {"evaluators": "skip_missing"}
    more = build(TrainConfig, values)
    assert more != plain
    assert identity(more) == identity(plain)


def test_keys_that_identity_leaves_out_are_declared_where_no_code_counts() -> None:
    values = identity(load_recipe("demo").stage1_config())
    of_config: list[tuple[type[Any], Mapping[str, Any]]] = [
        (TrainConfig, values),
        (CoreConfig, values["core"]),
    ]
    left_out: set[str] = set()
    for config, kept in of_config:
        types = get_type_hints(config)
        for declaring in (each for each in config.__mro__ if is_dataclass(each)):
            for key in inspect.get_annotations(declaring):
                assert counts(declaring.__module__) == (key in kept), key
                if key not in kept:
                    left_out |= {each.__module__ for each in _dataclasses(types[key])}
    assert len(left_out) == 2  # placement and evaluators
    assert not [module for module in left_out if counts(module)]


def _dataclasses(hint: Any) -> list[type[Any]]:
    """The configurations that a key's type names."""
    inside = [each for part in get_args(hint) for each in _dataclasses(part)]
    return [hint, *inside] if isinstance(hint, type) and is_dataclass(hint) else inside


def test_edits_of_meaning_make_all_that_they_can_change_stale_and_are_named(
    demo: Graph, copy: Path
) -> None:
    assert len(MEANING) >= 15
    before = records(demo)
    for file, old, new, made_by_it, definition in MEANING:
        path = copy / file
        whole = path.read_text()
        edit(path, lambda text, old=old, new=new: text.replace(old, new))
        after = records(demo)
        assert stale(before, after) == descendants(demo, made_by_it), file
        module = file.removesuffix(".py").replace("/", ".")
        for name in made_by_it:
            lines = differences(before[name], after[name]).values()
            assert f"code {module}: {definition} changed" in lines
        path.write_text(whole)


def describe(graph: Graph) -> str:
    """The modules that count, by job, without `olmo_core.`."""
    lines: list[str] = []
    for module in dict.fromkeys(node.module for node in graph.nodes.values()):
        made = [name for name, node in graph.nodes.items() if node.module == module]
        lines.append(f"{', '.join(made)}  ({module})")
        lines += [f"    {name.removeprefix('olmo_core.')}" for name in sources(module)]
    return "\n".join(lines) + "\n"


def test_the_modules_that_count_are_those_that_were_written_out(demo: Graph) -> None:
    assert describe(demo) == SNAPSHOT.read_text(), "see this module's docstring"


def test_nothing_that_never_counts_is_counted(demo: Graph) -> None:
    counted = {name for node in demo.nodes.values() for name in sources(node.module)}
    assert not [
        name for name in counted for never in NEVER_COUNTS if f"{name}.".startswith(f"{never}.")
    ]


if __name__ == "__main__":
    print(describe(build_graph(load_recipe("demo"))), end="")
