"""Where training tokens come from, by the official `data:` keys. Free of torch."""

from dataclasses import dataclass
from typing import Literal

from olmo_core.config.bounds import Bounded, at_least


@dataclass(frozen=True, kw_only=True)
class InstanceFilterConfig(Bounded):
    """Mask an instance with `repetition_max_count` repeats of a run of these periods (tokens)."""

    repetition_max_period: int = 13
    repetition_min_period: int = at_least(1, default=1)
    repetition_max_count: int = at_least(1, default=32)

    def __post_init__(self) -> None:
        super().__post_init__()
        least, longest = self.repetition_min_period, self.repetition_max_period
        if longest < least:
            raise ValueError(f"repetition_max_period is {longest}; expected {least} or more")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Bounded):
    """Official keys of `data:` that decide what a step sees."""

    paths: list[str] | None = None  # token files, one stream each
    label_mask_paths: list[str] | None = None  # bool arrays parallel to paths
    memmap_dtype: Literal["uint8", "uint16", "uint32", "uint64"] = "uint16"
    instance_filter: InstanceFilterConfig | None = None
    seed: int | None = at_least(0, default=None)  # None: the run's seed
    pad_direction: Literal["right"] = "right"
    drop_last: bool = False
    generate_doc_lengths: bool = False  # attention stays within documents, told apart by EOS
    generate_attention_mask: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generate_attention_mask:
            raise ValueError(
                "generate_attention_mask is True: not implemented; padding at the end needs none, "
                "label_mask_paths keep it out of the loss"
            )
        if self.label_mask_paths is not None and self.paths is None:
            raise ValueError("label_mask_paths without paths")
