"""Every label of the official files is known, and asks what AI2's own library asks."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from olmo_core.config.evaluators import EvaluatorConfig
from olmo_core.errors import ConfigError
from olmo_core.evals.in_loop.labels import figure, labels, require_known
from olmo_core.evals.in_loop.prompts import SUBJECTS, questions
from tests.olmo_core.evals.conftest import WholeTexts

OFFICIAL = yaml.safe_load(Path(__file__).with_name("official.yaml").read_text())
NAMED = sorted({label for file in OFFICIAL.values() for label in file["labels"]})
# One of each kind of text; the others of a kind differ in their data alone, and are slow together.
KINDS = sorted(
    {*NAMED}
    - {label for label in NAMED if label.startswith("mmlu_") and "_humanities_" not in label}
    | {"mmlu_stem", "mmlu_other_test", "mmlu_stem_bpb", "copa_rc_0shot", "boolq_rc_0shot_bpb"}
)


@pytest.mark.parametrize("file", OFFICIAL)
def test_every_label_of_an_official_file_is_known(file: str) -> None:
    for label in OFFICIAL[file]["labels"]:
        assert label in labels()
    evaluators = [
        EvaluatorConfig(label=name, type="downstream") for name in OFFICIAL[file]["labels"]
    ]
    require_known(evaluators, "require")


def test_an_unknown_label_is_refused_with_its_neighbour_or_skipped() -> None:
    evaluators = [EvaluatorConfig(label=name, type="downstream") for name in ("piqa", "helaswag")]
    with pytest.raises(ConfigError, match="'helaswag': did you mean 'hellaswag'"):
        require_known(evaluators, "require")
    require_known(evaluators, "skip_missing")


def test_figures_have_olmo_s_names() -> None:
    assert figure("piqa") == "eval/downstream/piqa_len_norm"
    assert figure("mmlu_stem_mc_5shot") == "eval/downstream/mmlu_stem_mc_5shot_len_norm"
    assert figure("arc_easy_ppl") == "eval/downstream_ce_loss/arc_easy_ppl_ce_loss"
    assert figure("boolq_mc_5shot_bpb") == "eval/downstream_bpb/boolq_mc_5shot_bpb_bpb"


def test_the_subjects_of_mmlu_are_57() -> None:
    assert len({subject for group in SUBJECTS.values() for subject in group}) == 57


@pytest.mark.parametrize(
    "label",
    [pytest.param(each, marks=[] if each in KINDS else [pytest.mark.slow]) for each in labels()],
)
def test_a_label_asks_what_ai2_s_library_asks(library: Any, label: str) -> None:
    task = library.tasks.build_task(label, WholeTexts(), model_ctx_len=1 << 30)
    assert task.metric_type == labels()[label].metric
    theirs: dict[int, list[Any]] = {}
    for sample in task.samples:
        found = (sample["ctx"][0], sample["continuation"][0], sample["label_id"])
        theirs.setdefault(sample["doc_id"], []).append(found)
    ours = [
        [(*pair, each.right) for pair in zip(each.contexts, each.choices, strict=True)]
        for each in questions(labels()[label])
    ]
    # MMLU's subjects come in another order.
    assert Counter(map(tuple, ours)) == Counter(map(tuple, theirs.values()))
