"""A manifest: which tokens, in which streams. Streams are lists of ranges over token files.

The ranges of a stream are joined end to end and cut into windows of the sequence length, so that a
mix loses less than one window per source. `data.paths` of an official YAML means one stream per
file, its tail dropped, as in OLMo.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.data.files import Files
from olmo_core.data.format import TokenFile, little_endian, open_token_file
from olmo_core.errors import InputError
from olmo_core.files import read_json, write_json

SCHEMA_VERSION = 1
ASSET = "tokens"  # the asset whose run folder the paths of a mix are relative to


@dataclass(frozen=True, kw_only=True)
class Range:
    """Tokens [start, stop) of one file, and the file of bools that says which are labels."""

    path: str
    start: int
    stop: int
    label_mask: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the range's JSON object in a manifest."""
        content = {"path": _reference(self.path), "start": self.start, "stop": self.stop}
        if self.label_mask is not None:
            content["label_mask"] = _reference(self.label_mask)
        return content


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Ranges joined end to end; a range may occur more than once."""

    name: str
    ranges: tuple[Range, ...]

    @property
    def tokens(self) -> int:
        """Return the length of the joined ranges."""
        return sum(part.stop - part.start for part in self.ranges)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What training reads. Vocabulary, tokenizer and EOS are None if no file names them."""

    dtype: str
    streams: tuple[Stream, ...]
    vocab_size: int | None = None
    tokenizer_sha256: str | None = None
    eos_token_id: int | None = None
    # Where relative paths start, and who reads the files; no part of the identity.
    root: Path | None = None
    files: Files = field(default_factory=Files, compare=False, repr=False)

    @classmethod
    def read(cls, path: Path, *, root: Path) -> "Manifest":
        """Read a `manifest.json` whose paths are relative to `root`, the run folder of `tokens`.

        Raises:
            InputError: missing, malformed, or of another schema version.
        """
        try:
            content = read_json(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such manifest") from None
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{path}: expected a manifest of schema_version {SCHEMA_VERSION}")
        try:
            return cls(
                dtype=little_endian(content["dtype"], where=path).name,
                vocab_size=int(content["vocab_size"]),
                tokenizer_sha256=str(content["tokenizer_sha256"]),
                eos_token_id=int(content["eos_token_id"]),
                streams=tuple(
                    Stream(name=str(stream["name"]), ranges=tuple(map(_range, stream["ranges"])))
                    for stream in content["streams"]
                ),
                root=root,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: malformed manifest: {error!r}") from None

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[str],
        *,
        dtype: str,
        label_mask_paths: Sequence[str] | None = None,
        cache: Path | None = None,
    ) -> "Manifest":
        """Return the manifest of `data.paths`: a stream per file; one listed twice is read twice.

        Paths may be URLs, read in place through `cache` (see `olmo_core.data.files`).

        Raises:
            InputError: no path, a different number of masks, or a missing or empty file.
        """
        if not paths:
            raise InputError("data.paths: empty; at least one token file is needed")
        masks: Sequence[str | None] = label_mask_paths or [None] * len(paths)
        if len(masks) != len(paths):
            raise InputError(
                f"data.label_mask_paths: {len(masks)} files for the {len(paths)} of data.paths"
            )
        files = Files(cache)

        def opened_or_named(path: str) -> TokenFile:
            try:
                return open_token_file(path, files=files, dtype=little_endian(dtype))
            except InputError as error:
                raise InputError(f"data.paths[{paths.index(path)}]: {error}") from None

        opened = files.each(opened_or_named, paths)
        streams = tuple(
            Stream(
                name=path,
                ranges=(Range(path=path, start=0, stop=opened[path].tokens, label_mask=mask),),
            )
            for path, mask in zip(paths, masks, strict=True)
        )
        return cls(dtype=dtype, streams=streams, files=files)

    def write(self, path: Path) -> None:
        """Write `manifest.json`; paths must be relative to the run folder of `tokens`."""
        write_json(path, {"schema_version": SCHEMA_VERSION, **self._content()})

    def resolve(self, path: str) -> str:
        """Return the path of a range's file on this machine."""
        return path if self.root is None else str(self.root / path)

    @property
    def tokens(self) -> int:
        """Return the number of tokens in all streams, tails included."""
        return sum(stream.tokens for stream in self.streams)

    @functools.cached_property
    def sha256(self) -> str:
        """Return a digest of what decides the windows, wherever the files lie.

        The names in `data.paths` are left out: a corpus that has moved is still the same corpus.
        """
        content = self._content()
        if self.root is None:
            for stream in content["streams"]:
                stream.pop("name")
                for part in stream["ranges"]:
                    part.pop("path")
                    if "label_mask" in part:
                        part["label_mask"] = True
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def open_files(self, *, vocab_size: int | None = None) -> dict[str, TokenFile]:
        """Check every file once: header, size, dtype, vocabulary, tokenizer, ranges, label mask.

        Returns:
            The opened files by their paths in the manifest.

        Raises:
            InputError: names the first file that does not fit.
        """
        ranges = [(stream, part) for stream in self.streams for part in stream.ranges]
        opened = self.files.each(
            functools.partial(
                open_token_file,
                files=self.files,
                dtype=little_endian(self.dtype),
                vocab_size=vocab_size,
                need_header=self.tokenizer_sha256 is not None,
            ),
            (self.resolve(part.path) for _, part in ranges),
        )
        expected = self.tokenizer_sha256
        for file in opened.values():
            if expected is None or file.header is None:
                continue
            if (written := file.header.tokenizer_sha256) != expected:
                raise InputError(
                    f"{file.path}: written by tokenizer {written[:12]}, the manifest says "
                    f"{expected[:12]}"
                )
        masks = (self.resolve(part.label_mask) for _, part in ranges if part.label_mask is not None)
        mask_bytes = self.files.each(self.files.size, masks)
        for stream, part in ranges:
            file = opened[self.resolve(part.path)]
            if not 0 <= part.start < part.stop <= file.tokens:
                raise InputError(
                    f"stream {stream.name!r}: range [{part.start}, {part.stop}) of "
                    f"{part.path}, which holds {file.tokens} tokens"
                )
            mask = part.label_mask and self.resolve(part.label_mask)
            if mask and mask_bytes[mask] != file.tokens:
                raise InputError(
                    f"{mask}: {mask_bytes[mask]} bytes for the {file.tokens} tokens "
                    f"of {file.path}; a label mask has one bool of one byte a token, and no header "
                    "(array.tofile, not numpy.save)"
                )
        return {part.path: opened[self.resolve(part.path)] for _, part in ranges}

    def _content(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "vocab_size": self.vocab_size,
            "tokenizer_sha256": self.tokenizer_sha256,
            "eos_token_id": self.eos_token_id,
            "streams": [
                {"name": stream.name, "ranges": [part.to_dict() for part in stream.ranges]}
                for stream in self.streams
            ],
        }


def _range(content: dict[str, Any]) -> Range:
    return Range(
        path=_path(content["path"]),
        start=int(content["start"]),
        stop=int(content["stop"]),
        label_mask=_path(content["label_mask"]) if "label_mask" in content else None,
    )


def _reference(path: str) -> dict[str, str]:
    return {"asset": ASSET, "path": path}


def _path(content: dict[str, str]) -> str:
    if content["asset"] != ASSET:
        raise ValueError(f"asset {content['asset']!r}: paths are relative to {ASSET!r}")
    return content["path"]
