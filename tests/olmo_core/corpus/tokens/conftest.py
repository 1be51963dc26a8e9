"""Runs of `tokens` over published token files alone, and a server of such files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from olmo_core.corpus.tokens import tokenizer, tokens
from olmo_core.corpus.tokens.published import PublishedSource
from olmo_core.corpus.tokens.tokenizer import TokenizerConfig
from olmo_core.corpus.tokens.tokens import TokensConfig
from tests.olmo_core.corpus.tokens.token_files import VOCABULARY
from tests.olmo_core.file_server import FileServer, serving


@pytest.fixture(scope="session")
def released_run(tmp_path_factory: pytest.TempPathFactory, tokenizer_run: Path, run) -> Path:
    """A released tokenizer, in a recipe without text."""
    config = TokenizerConfig(vocab_size=VOCABULARY, file=str(tokenizer_run / "tokenizer.json"))
    return run(tokenizer, tmp_path_factory.mktemp("released") / "tokenizer", config, {})


@pytest.fixture
def make(tmp_path: Path, released_run: Path, run) -> Callable[..., Path]:
    """A function that runs `tokens` over published sources alone."""

    def make(*sources: PublishedSource, processes: int = 1, folder: str = "tokens") -> Path:
        config = TokensConfig(published=sources)
        inputs = {"tokenizer": released_run}
        return run(tokens, tmp_path / "root" / "recipe" / folder / "v", config, inputs, processes)

    return make


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as state:
        yield state
