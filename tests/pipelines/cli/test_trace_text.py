"""What `olmo trace text` prints of spans and documents of whatever origin."""

from types import SimpleNamespace
from typing import Any

import pytest

from assets.lineage.trained_text import Span, TextAnswer, TrainedDocument
from olmo_core.data.document_index import IndexedDocument
from olmo_core.errors import ConfigError
from pipelines.cli import trace_text

HOSTILE = "\x1b[31mred\x1b]0;title\x07 [bold]markup[/bold] \x9b2J"


def answer() -> TextAnswer:
    document = IndexedDocument(
        file="tokens/a/part-0-00000.npy", start=5, end=90, id=f"web/{HOSTILE}", src="s.gz", loc=3,
        source="web", url=f"https://example.org/{HOSTILE}", characters=9, text_bytes=9, sha1=None,
    )  # fmt: skip
    held: Any = TrainedDocument(document=document, start=2, stop=30, visits=[])
    span = Span(
        first=2, last=2 + len(HOSTILE.encode()), text=HOSTILE, places=1, unread=0, documents=[held]
    )
    weights: Any = SimpleNamespace(label="soup/abc", trained=[])
    return TextAnswer(weights=weights, text=f"é{HOSTILE}", spans=[span], unread=7, unchecked=0)


def test_what_documents_say_is_shown_and_never_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "output.txt"
    file.write_text("text")
    monkeypatch.setattr(trace_text, "Lineage", lambda recipe: recipe)
    monkeypatch.setattr(trace_text, "trace_text", lambda *given, **options: answer())
    trace_text.print_text("demo", str(file), None, limit=3, places=100, as_json=False)
    said = capsys.readouterr().out
    assert not set(said) & {"\x1b", "\x07", "\x9b"}
    assert said.count("\\x1b[31mred") == 3
    assert said.count("[bold]markup[/bold]") == 3
    assert "7 were not, and longer parts may stand there: a higher --places" in said
    assert "in one place of the token files" in said
    assert f"{len(HOSTILE)} of {len(HOSTILE) + 1} characters" in said


def test_characters_are_counted_in_the_text() -> None:
    [span] = trace_text.text_entry("demo", answer())["spans"]
    assert span["characters"] == [1, 1 + len(HOSTILE)]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), (b"ab\xff", r"byte 2: not UTF-8")]
)
def test_a_file_that_cannot_be_read(
    content: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(trace_text, "Lineage", lambda recipe: recipe)
    file = tmp_path / "output.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        trace_text.print_text("demo", str(file), None, limit=3, places=100, as_json=False)
