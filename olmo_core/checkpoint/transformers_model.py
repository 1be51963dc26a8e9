"""Transformers' model of an exported folder; never one with weights that were not in the files."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from olmo_core.errors import InputError


def load_pretrained(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load a Hugging Face folder in f32.

    Raises:
        InputError: weights are missing, unexpected or of another shape. Transformers would
            initialise them at random and go on.
    """
    disable_progress_bar()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    model, info = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        found = sorted(map(str, info.get(kind) or ()))
        if found:
            raise InputError(
                f"{folder}: {kind.replace('_', ' ')}: {', '.join(found[:5])}"
                f"{f' and {len(found) - 5} more' if len(found) > 5 else ''}"
            )
    return model.to(device).eval()
