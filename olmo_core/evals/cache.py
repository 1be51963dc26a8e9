"""Keep scores by everything that decides them, so that only changes are evaluated again."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.files import read_json, write_json


class ScoreCache:
    """JSON values stored under the digest of their key, in one folder.

    A key names the model's weights, the data, the code and the versions. An entry is therefore
    never out of date and never replaced. The folder may be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: Mapping[str, Any]) -> Any | None:
        """Return the value stored for `key`; None if there is none."""
        try:
            return read_json(self._path(key))["value"]
        except FileNotFoundError:
            return None

    def put(self, key: Mapping[str, Any], value: Any) -> None:
        """Store a JSON-able value, with its key beside it for human readers."""
        write_json(self._path(key), {"key": dict(key), "value": value})

    def _path(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"
