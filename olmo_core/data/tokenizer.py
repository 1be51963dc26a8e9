"""A `tokenizer.json`, read to encode whole texts and nothing beside them."""

from pathlib import Path

from tokenizers import Tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a file; what it says of truncation, padding and templates does not apply.

    transformers applies the first two only where it is asked to, and BOS and EOS are ours to add.

    Raises:
        Exception: the library raises no narrower class.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    return tokenizer
