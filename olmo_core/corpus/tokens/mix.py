"""Assets `stage1_mix` and `stage2_mix`: which tokens a stage trains on; one stream per source.

After it runs, `manifest.json` lists for each source the ranges of its token files that make up its
share, by repetition or by weight. A part of a source is a sample of its whole documents.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.config.load import nearest
from olmo_core.corpus.tokens.listing import listed_times
from olmo_core.corpus.tokens.sample import SourceTokens, sample
from olmo_core.data.format import TokenFile, open_token_file
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report


@dataclass(frozen=True, kw_only=True)
class SourceShare:
    """How much of a source a mix takes: a repetition of it, or a weight among the sources.

    Raises:
        ValueError: both are given, or one is not above 0 and finite.
    """

    repetitions: float | None = None  # 1 is once through; 1 where no weight is given either
    weight: float | None = None  # share of the mix, relative to the other weights
    max_repetitions: float | None = None  # in place of the mix's

    def __post_init__(self) -> None:
        if self.repetitions is not None and self.weight is not None:
            raise ValueError("repetitions and weight: expected one of them")
        for name in ("repetitions", "weight", "max_repetitions"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(
                    f"{name}: {value}: expected above 0, and finite; else leave the source out"
                )


@dataclass(frozen=True, kw_only=True)
class MixConfig(Bounded):
    """Sections `stage1_mix` and `stage2_mix` of corpus.yaml.

    Raises:
        ValueError: no source, weights for some sources only, or no room.
    """

    sources: dict[str, SourceShare] = field(default_factory=dict[str, SourceShare])
    max_tokens: int | None = at_least(1, default=None)  # of the mix; every share shrinks alike
    max_repetitions: float | None = None  # of every source; a share that asks for more is refused

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources: expected at least one")
        weighted = [name for name, share in self.sources.items() if share.weight is not None]
        if weighted and len(weighted) < len(self.sources):
            raise ValueError(
                f"sources: weight is given for {', '.join(weighted)} only; expected for all or none"
            )
        if self.max_repetitions is not None and not 0 < self.max_repetitions < math.inf:
            raise ValueError(
                f"max_repetitions: {self.max_repetitions}: expected above 0, and finite"
            )
        super().__post_init__()

    def limit(self, source: str) -> float | None:
        """Return how often a source may be read; None: as often as is asked for."""
        own = self.sources[source].max_repetitions
        return self.max_repetitions if own is None else own


def make(config: MixConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Choose the ranges of every source and write the manifest."""
    root = inputs["tokens"]
    with job.timed("open token files"):
        sources = {name: SourceTokens(source_files(root, name)) for name in sorted(config.sources)}
    available = {name: source.tokens for name, source in sources.items()}
    wanted = wanted_tokens(available, config)
    streams: list[Stream] = []
    with job.timed("choose ranges"):
        for name, source in sources.items():
            streams.append(
                Stream(name=name, ranges=tuple(choose_ranges(root, name, source, wanted[name])))
            )
            job.progress(len(streams), len(sources), unit="sources")
    header = next(iter(sources.values())).files[0].header
    assert header is not None
    manifest = Manifest(
        dtype=header.dtype,
        vocab_size=header.vocab_size,
        tokenizer_sha256=header.tokenizer_sha256,
        eos_token_id=header.eos_token_id,
        streams=tuple(streams),
        root=root,
    )
    manifest.open_files()
    manifest.write(job.folder / "manifest.json")
    planned = sum(wanted.values())
    return Report(
        numbers={
            "tokens": manifest.tokens,
            "planned_tokens": planned,
            "sources": len(streams),
            "ranges": sum(len(stream.ranges) for stream in streams),
        },
        tables={
            "sources": [
                {
                    "source": stream.name,
                    "tokens": stream.tokens,
                    "planned_tokens": wanted[stream.name],
                    "share": round(stream.tokens / manifest.tokens, 4),
                    "planned_share": round(wanted[stream.name] / planned, 4),
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
    """Return the token files of a source, in order, checked; one that is listed twice, twice.

    Raises:
        ConfigError: there is no such source; names the nearest.
        InputError: a file is not what its header says.
    """
    found = sorted((root / "tokens" / name).glob("*.npy"))
    if not found:
        known = sorted(path.name for path in (root / "tokens").iterdir() if path.is_dir())
        raise ConfigError(f"sources: {name}: no tokens of such a source; {nearest(name, known)}")
    times = listed_times(root)
    return [
        file
        for path in found
        for file in [open_token_file(path, need_header=True)]
        * times.get(path.relative_to(root).as_posix(), 1)
    ]


def wanted_tokens(available: Mapping[str, int], config: MixConfig) -> dict[str, int]:
    """Return the tokens that the mix takes of each source, before cuts move to document ends.

    With weights, the mix has `max_tokens`, or as many as leave every source read at most as often
    as it may be, once where nothing is said.

    Raises:
        InputError: a source would be read more often than it may be.
    """
    shares = config.sources
    limits = {name: config.limit(name) for name in shares}
    if any(share.weight is not None for share in shares.values()):
        weights = {name: share.weight or 0.0 for name, share in shares.items()}
        whole = sum(weights.values())
        largest = min(available[n] * (limits[n] or 1) * whole / w for n, w in weights.items())
        size = config.max_tokens or largest
        wanted = {name: size * weight / whole for name, weight in weights.items()}
    else:
        wanted = {
            name: available[name] * (1.0 if share.repetitions is None else share.repetitions)
            for name, share in shares.items()
        }
        scale = min(1.0, (config.max_tokens or float("inf")) / sum(wanted.values()))
        largest = None
        wanted = {name: tokens * scale for name, tokens in wanted.items()}
    rounded = {name: max(1, round(tokens)) for name, tokens in wanted.items()}
    for name, limit in limits.items():
        if limit is not None and rounded[name] > available[name] * limit + 1:
            raise InputError(
                f"sources: {name}: {rounded[name]} tokens are wanted of the {available[name]} "
                f"there are, {rounded[name] / available[name]:.2f} times each; max_repetitions is "
                f"{limit:g}"
                + (f"; max_tokens: {int(largest)} is the most that fits" if largest else "")
            )
    return rounded


def choose_ranges(root: Path, name: str, source: SourceTokens, tokens: int) -> list[Range]:
    """Return all of a source, over and over, and a sample of its documents for the rest.

    Raises:
        InputError: the share is less than half of the sample's first document.
    """
    times, rest = divmod(tokens, source.tokens)
    stretches = [(0, source.tokens)] * times + (sample(source, rest) if rest else [])
    if not stretches:
        first = source.end_after(0)
        raise InputError(
            f"sources: {name}: {tokens} tokens are wanted of {source.tokens}, and 0 is nearest to "
            f"that: documents stay whole, and they are long (the first one has {first} tokens); "
            "take more, or leave the source out"
        )
    return [
        Range(path=Path(file.path).relative_to(root).as_posix(), start=start, stop=stop)
        for stretch in stretches
        for file, start, stop in source.parts(*stretch)
    ]


if __name__ == "__main__":
    run_job(MixConfig, make)
