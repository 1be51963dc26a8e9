"""Official keys of `evaluators:`, what is scored while a run trains. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from olmo_core.config.bounds import Bounded, at_least


@dataclass(frozen=True, kw_only=True)
class EvaluatorDataConfig(Bounded):
    """Official keys of an evaluator's `data:`, the token files of a perplexity set."""

    datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    paths: tuple[str, ...] | None = None  # one set, named by the label
    memmap_dtype: Literal["uint8", "uint16", "uint32", "uint64"] = "uint16"
    # How OLMo's loader reads them. Here every document is read once, whole, by the ranks
    # themselves, so that these have no meaning.
    drop_last: bool = False
    generate_attention_mask: bool = False
    generate_doc_lengths: bool = False
    num_workers: int = 0
    pad_direction: str = "right"
    persistent_workers: bool = False
    pin_memory: bool = False
    prefetch_factor: int | None = None
    timeout: int = 0
    seed: int | None = None
    # These would score something else.
    custom_dataset: Any = None
    instance_filter: Any = None
    label_mask_paths: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("custom_dataset", "instance_filter", "label_mask_paths"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: not implemented for an evaluator; leave it out")
        if self.paths is not None and self.datasets:
            raise ValueError("paths and datasets are both given; give only one of them")

    def sets(self, label: str) -> Mapping[str, tuple[str, ...]]:
        """Return the files of each set by its name."""
        return {label: self.paths} if self.paths else self.datasets


@dataclass(frozen=True, kw_only=True)
class EvaluatorConfig(Bounded):
    """One entry of the official list `evaluators:`.

    Raises:
        ValueError: perplexity sets without files, or files of a downstream task.
    """

    label: str
    type: Literal["lm", "downstream"] = "lm"  # lm: perplexity of token files
    data: EvaluatorDataConfig = field(default_factory=EvaluatorDataConfig)
    device_eval_batch_size: int | None = at_least(1, default=None)  # None: the run's
    subset_num_batches: int | None = at_least(-1, default=None)  # None: the run's; -1: all

    def __post_init__(self) -> None:
        super().__post_init__()
        files = self.data.sets(self.label)
        if self.type == "lm" and not any(files.values()):
            raise ValueError(
                f"data: {self.label} has no token files; expected data.datasets or data.paths, or "
                "type: downstream"
            )
        if self.type == "downstream" and files:
            raise ValueError(f"data: {self.label} is a downstream task; its data is no token files")
