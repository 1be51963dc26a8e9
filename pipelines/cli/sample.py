"""`olmo sample`: what a model goes on to say."""

import json
import os
import subprocess
import sys
from typing import Any

from assets.lineage.loadable import Loadable, find_loadable
from assets.paths import root
from olmo_core.errors import ConfigError, ExitCode, InputError
from pipelines.cli.terminal import plain, print_json, terminal

MODULE = "olmo_core.release.continue_text"  # loads torch: a process of its own


def print_samples(
    model: str,
    prompt: str,
    *,
    count: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    as_json: bool,
) -> None:
    """Print continuations of a prompt.

    Raises:
        ConfigError: there is no such model, or several greedy continuations are asked for.
        InputError: it cannot be loaded, or the prompt does not fit its context.
    """
    if temperature == 0 and count > 1:
        raise ConfigError(
            "-n: greedy continuations are all the same; give --temperature, as in 0.8"
        )
    found = find_loadable(model, root())
    said = _asked(
        found,
        prompt=prompt,
        count=count,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    if as_json:
        how = {"temperature": temperature, "top_p": top_p, "seed": seed}
        print_json({"model": found.label, "prompt": prompt, **how, "continuations": said})
        return
    console = terminal()
    for number, each in enumerate(said):
        if count > 1:
            console.print(f"── {number + 1} of {count} (seed {seed + number}) ──", style="dim")
        console.print(plain(prompt), end="", style="bold")
        console.print(plain(each["text"]))
        if not each["ended"]:
            console.print(f"… ({each['tokens']} tokens: --max-new-tokens)", style="dim")


def _asked(found: Loadable, **request: Any) -> list[dict[str, Any]]:
    """Return what the process with torch says."""
    tokenizer = None if found.tokenizer is None else str(found.tokenizer)
    whole = {"model": str(found.folder), "tokenizer": tokenizer, **request}
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=json.dumps(whole),
        env={**os.environ, "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    errors: dict[int, type[Exception]] = {
        ExitCode.CONFIG: ConfigError,
        ExitCode.INPUT: InputError,
    }
    if (kind := errors.get(done.returncode)) is not None:
        raise kind(f"{found.label}: {done.stderr.strip()}")
    if done.returncode:
        raise RuntimeError(f"{MODULE}: exit code {done.returncode}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]
