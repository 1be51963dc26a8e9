"""What a message shows of URLs, whoever raises it."""

import time

import pytest

from olmo_core.errors import ConfigError, ExitCode, InputError, exit_codes, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:s3cret@h:8080/x: gone", "https://***@h:8080/x: gone"),
        ("ftp://ann:s3@cret@h/x", "ftp://***@h/x"),
        ("s3://key:s3cret@bucket/x", "s3://***@bucket/x"),
        ("(https://h/x?a=s3cret&b=s3%26cret).", "(https://h/x?a=***&b=***)."),
        ("https://h/x?s3cret; again", "https://h/x?***; again"),
        ("https://h/x?=s3cret", "https://h/x?=***"),
        ("url='https://h/x?a=s3cret,s3cret'", "url='https://h/x?a=***'"),
        ("https://h/x#token=s3cret&b=s3cret", "https://h/x#token=***&b=***"),
        ("https://h/x?a=s3cret#part", "https://h/x?a=***#part"),
        ("exceeded with url: /x?a=s3cret (Caused by", "exceeded with url: /x?a=*** (Caused by"),
        ("zip://a.npy::https://h/x?a=s3cret", "zip://a.npy::https://h/x?a=***"),
        ("https://h/x#part, https://h/x/@y: why?", "https://h/x#part, https://h/x/@y: why?"),
        ("/a/b?c=d of ann@h", "/a/b?c=d of ann@h"),
    ],
)
def test_urls_show_no_secrets(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert redacted(text) == shown
    assert "cret" not in shown
    assert str(InputError(text)) == str(ConfigError(text)) == shown
    for error in (InputError(text), ConfigError(text), RuntimeError(text)):
        with pytest.raises(SystemExit), exit_codes():
            raise error
        printed = capsys.readouterr().err
        assert shown in printed
        assert "s3cret" not in printed


@pytest.mark.parametrize(
    "text", ["/" + "a." * 50_000, "https://h/?a=" + "," * 100_000 + "b", "://h/?" + "&," * 50_000]
)
def test_time_does_not_grow_by_the_square_of_a_text(text: str) -> None:
    """Which may be a value of a recipe, or a server's answer: it took ten seconds and more."""
    began = time.process_time()
    redacted(text)
    assert time.process_time() - began < 5


def test_what_a_user_is_told_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left, exit_codes():
        raise InputError("a.jsonl:3: key 'text' is missing")
    assert left.value.code == ExitCode.INPUT
    assert capsys.readouterr().err == "input: a.jsonl:3: key 'text' is missing\n"
