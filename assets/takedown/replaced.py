"""Documents whose text `filtered` has replaced in part: no digest of what was tokenised is theirs.

So they are looked for where they still are as they were, among the documents of `raw`.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from assets.paths import root
from assets.reuse import located
from olmo_core.corpus.document import read_folder, text_facts
from olmo_core.corpus.rows import read_rows
from olmo_core.files import read_json, write_json
from olmo_core.run.folder import RunFolder

CACHE = Path("cache") / "takedown"  # below the root: what was found in files that are as they were


def cached(*asked: Any) -> Path:
    """Return the file for what was found by these facts; they say all that it depends on."""
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    return root() / CACHE / f"{digest}.json"


def replaced(
    filtered: RunFolder, sha1s: Collection[str], urls: Collection[str]
) -> dict[str, tuple[str, str | None]]:
    """Return documents that are looked for, by their ids, with the SHA-1 and URL of each.

    Args:
        filtered: Run whose documents were tokenised. Nothing is read if it replaces nothing.
        sha1s: Of texts as `raw` has them, in hexadecimal digits.
        urls: Of all of whose documents are looked for.

    Returns:
        Those that are in the corpus. What a list excludes is not, nor a near copy of such a one.
    """
    launch = filtered.read(filtered.launch) or {}
    if not launch.get("parts", {}).get("config", {}).get("replacements"):
        return {}
    held_out = RunFolder(_input(filtered, "held_out"))
    raw = RunFolder(_input(held_out, "raw"))
    digests = [run.read_result()["digest"] for run in (raw, held_out)]
    path = cached(digests, sorted(sha1s), sorted(urls))
    if path.is_file():
        return {name: (sha1, url) for name, sha1, url in read_json(path)["found"]}
    rows = read_rows(held_out.path / "held_out.jsonl.gz")
    gone = {row["id"] for row in rows if row["role"] == "near excluded"}
    found: dict[str, tuple[str, str | None]] = {}
    for document in read_folder(raw.path / "documents"):
        facts = text_facts(document.text, document.metadata)
        if (facts["sha1"] in sha1s or facts["url"] in urls) and document.id not in gone:
            found[document.id] = (facts["sha1"], facts["url"])
    write_json(path, {"found": [[name, *facts] for name, facts in found.items()]})
    return found


def _input(run: RunFolder, name: str) -> Path:
    return located(run.read_result()["inputs"][name], run, root())
