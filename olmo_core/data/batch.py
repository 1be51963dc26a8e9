"""One rank's part of a global batch, as the loader returns it and a step consumes it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's part of a global batch: b instances of T tokens."""

    input_ids: np.ndarray  # int64 (b, T)
    instance_mask: np.ndarray  # bool (b,): false is masked from the loss
    label_mask: np.ndarray | None  # bool (b, T), where the data has masks
    positions: np.ndarray | None  # int64 (b, T): of each token in its document, where asked for
    instances: np.ndarray  # int64 (b,): window numbers in the manifest
