"""Assets `stage1_mix` and `stage2_mix`: which tokens a stage trains on; one stream per source.

After it runs, `manifest.json` lists for each source the ranges of its token files that make up its
share, by repetition or by weight. A range that ends within a file ends after an EOS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.config.load import nearest
from olmo_core.data.format import TokenFile, open_token_file, read_tokens
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

_LOOK_BACK_TOKENS = 1 << 16  # an end of a document is looked for so far before a cut


@dataclass(frozen=True, kw_only=True)
class SourceShare:
    """How much of a source a mix takes: a repetition of it, or a weight among the sources.

    Raises:
        ValueError: both are given, or one is not above 0.
    """

    repetitions: float | None = None  # 1 is once through; 1 where no weight is given either
    weight: float | None = None  # share of the mix, relative to the other weights

    def __post_init__(self) -> None:
        if self.repetitions is not None and self.weight is not None:
            raise ValueError("repetitions and weight: expected one of them")
        for name, value in (("repetitions", self.repetitions), ("weight", self.weight)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}: {value}: expected above 0; leave the source out")


@dataclass(frozen=True, kw_only=True)
class MixConfig(Bounded):
    """Sections `stage1_mix` and `stage2_mix` of corpus.yaml.

    Raises:
        ValueError: no source, weights for some sources only, or no room.
    """

    sources: dict[str, SourceShare] = field(default_factory=dict[str, SourceShare])
    max_tokens: int | None = at_least(1, default=None)  # of the mix; every share shrinks alike

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources: expected at least one")
        weighted = [name for name, share in self.sources.items() if share.weight is not None]
        if weighted and len(weighted) < len(self.sources):
            raise ValueError(
                f"sources: weight is given for {', '.join(weighted)} only; expected for all or none"
            )
        super().__post_init__()


def make(config: MixConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Choose the ranges of every source and write the manifest."""
    root = inputs["tokens"]
    with job.timed("open token files"):
        files = {name: source_files(root, name) for name in config.sources}
    available = {name: sum(file.tokens for file in found) for name, found in files.items()}
    wanted = wanted_tokens(available, config)
    with job.timed("choose ranges"):
        streams = tuple(
            Stream(name=name, ranges=tuple(choose_ranges(root, files[name], wanted[name])))
            for name in sorted(files)
        )
    header = next(iter(files.values()))[0].header
    assert header is not None
    manifest = Manifest(
        dtype=header.dtype,
        vocab_size=header.vocab_size,
        tokenizer_sha256=header.tokenizer_sha256,
        eos_token_id=header.eos_token_id,
        streams=streams,
        root=root,
    )
    manifest.open_files()
    manifest.write(job.folder / "manifest.json")
    return Report(
        numbers={
            "tokens": manifest.tokens,
            "sources": len(streams),
            "ranges": sum(len(stream.ranges) for stream in streams),
        },
        tables={
            "sources": [
                {
                    "source": stream.name,
                    "tokens": stream.tokens,
                    "share": round(stream.tokens / manifest.tokens, 4),
                    "repetitions": round(stream.tokens / available[stream.name], 4),
                    "available_tokens": available[stream.name],
                }
                for stream in streams
            ]
        },
        data={
            "tokens": {stream.name: stream.tokens for stream in streams},
            "manifest_sha256": manifest.sha256,
            "sources": [stream.name for stream in streams],
        },
    )


def source_files(root: Path, name: str) -> list[TokenFile]:
    """Return the token files of a source, in order, checked.

    Raises:
        ConfigError: there is no such source; names the nearest.
        InputError: a file is not what its header says.
    """
    found = sorted((root / "tokens" / name).glob("*.npy"))
    if not found:
        known = sorted(path.name for path in (root / "tokens").iterdir() if path.is_dir())
        raise ConfigError(f"sources: {name}: no tokens of such a source; {nearest(name, known)}")
    return [open_token_file(path, need_header=True) for path in found]


def wanted_tokens(available: Mapping[str, int], config: MixConfig) -> dict[str, int]:
    """Return the tokens that the mix takes of each source, before cuts move to document ends.

    With weights, the mix has `max_tokens`, or as many as leave every source read at most once.
    """
    shares = config.sources
    if any(share.weight is not None for share in shares.values()):
        weights = {name: share.weight or 0.0 for name, share in shares.items()}
        whole = sum(weights.values())
        size = config.max_tokens or min(available[n] * whole / w for n, w in weights.items())
        return {name: max(1, round(size * weight / whole)) for name, weight in weights.items()}
    wanted = {
        name: available[name] * (1.0 if share.repetitions is None else share.repetitions)
        for name, share in shares.items()
    }
    scale = min(1.0, (config.max_tokens or float("inf")) / sum(wanted.values()))
    return {name: max(1, round(tokens * scale)) for name, tokens in wanted.items()}


def choose_ranges(root: Path, files: Sequence[TokenFile], tokens: int) -> list[Range]:
    """Return whole files, over and over, and an equal part of each file for the rest.

    Raises:
        InputError: the share is smaller than the first document of every file.
    """
    available = sum(file.tokens for file in files)
    whole, rest = divmod(tokens, available)
    parts = [(file, file.tokens) for file in files] * whole
    parts += [(file, cut(file, rest * file.tokens // available)) for file in files]
    ranges = [
        Range(path=Path(file.path).relative_to(root).as_posix(), start=0, stop=stop)
        for file, stop in parts
        if stop
    ]
    if not ranges:
        raise InputError(
            f"{files[0].path}: {tokens} tokens of this source are wanted, but no document ends "
            "within them; take more, or leave the source out"
        )
    return ranges


def cut(file: TokenFile, stop: int) -> int:
    """Return the last document end at or before `stop`; `stop` in a very long document.

    Tokens after a cut would continue, without an EOS, a text that they have nothing to do with.
    """
    assert file.header is not None
    start = max(0, stop - _LOOK_BACK_TOKENS)
    ends = np.flatnonzero(read_tokens(file, start, stop) == file.header.eos_token_id)
    if len(ends):
        return start + int(ends[-1]) + 1
    return stop if start else 0


if __name__ == "__main__":
    run_job(MixConfig, make)
