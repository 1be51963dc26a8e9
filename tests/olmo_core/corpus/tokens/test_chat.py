import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from olmo_core.corpus.tokens.chat import ChatTokenizer, main, prepare
from olmo_core.data.format import open_token_file
from olmo_core.data.manifest import Manifest
from olmo_core.errors import ConfigError, InputError

EOS, PAD = "<|endoftext|>", "<|padding|>"


def say(*messages: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


CHATS = [
    say(("user", " Sum 1 and 2? \n"), ("assistant", "\n It is 3.  ")),
    say(
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b\nc"),
        ("user", "d"),
        ("assistant", "Grüße 🙂"),
    ),
    say(("user", "No answer.")),
    say(("user", "q"), ("assistant", "")),
    say(("user", "long " * 100), ("assistant", "beyond the end")),
    say(("user", "q"), ("assistant", "long " * 100)),
]


def write(path: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(folder: Path, length: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.fromfile(folder / "input_ids.npy", "<u2").reshape(-1, length)
    return ids, np.fromfile(folder / "label_mask.npy", np.bool_).reshape(-1, length)


def by_hand(tokenizer: Tokenizer, chat: dict[str, Any]) -> tuple[list[int], list[bool]]:
    """Piece by piece, as `prepare_tulu_data.py` describes a row."""
    ids, mask = tokenizer.encode(EOS).ids, [False]
    for message in chat["messages"]:
        spoken = message["role"] == "assistant"
        pieces = [(f"<|{message['role']}|>\n", False)]
        if spoken:
            pieces += [(message["content"].strip(), True), (EOS, True), ("\n", False)]
        else:
            pieces += [(message["content"].strip() + "\n", False)]
        for text, label in pieces:
            encoded = tokenizer.encode(text, add_special_tokens=False).ids
            ids += encoded
            mask += [label] * len(encoded)
    return ids, mask


def test_rows_are_olmos(tokenizer_run: Path, tmp_path: Path) -> None:
    length = 128
    source = write(tmp_path / "chat.jsonl", CHATS)
    summary = prepare([source], ChatTokenizer(tokenizer_run), tmp_path, sequence_length=length)
    tokenizer = Tokenizer.from_file(str(tokenizer_run / "tokenizer.json"))
    ids, masks = read(tmp_path, length)
    expected = [by_hand(tokenizer, CHATS[number]) for number in (0, 1, 3, 5)]
    assert len(ids) == len(expected)
    for row, mask, (tokens, labels) in zip(ids, masks, expected, strict=True):
        padding = max(0, length - len(tokens))
        assert row.tolist() == (tokens + [tokenizer.token_to_id(PAD)] * padding)[:length]
        assert mask.tolist() == (labels + [False] * padding)[:length]

    def text(numbers: np.ndarray) -> str:
        return tokenizer.decode(numbers.tolist(), skip_special_tokens=False)

    assert text(ids[0]).startswith(
        f"{EOS}<|user|>\nSum 1 and 2?\n<|assistant|>\nIt is 3.{EOS}\n{PAD}"
    )
    assert text(ids[1][masks[1]]) == f"b\nc{EOS}Grüße 🙂{EOS}"
    assert text(ids[2][masks[2]]) == EOS
    assert {key: summary[key] for key in ("conversations", "rows", "without_labels")} == {
        "conversations": 6, "rows": 4, "without_labels": 2}  # fmt: skip
    assert summary["truncated"] == 2
    assert summary["labels"] == masks.sum()
    assert summary["tokens"] == sum(min(length, len(tokens)) for tokens, _ in expected)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_training_can_read_it(tokenizer_run: Path, tmp_path: Path) -> None:
    """More conversations than are encoded at once, of several files, one packed."""
    sources = [write(tmp_path / name, CHATS[:2] * 400) for name in ("a.jsonl", "b.jsonl.gz")]
    prepare(sources, ChatTokenizer(tokenizer_run), tmp_path / "out", sequence_length=64)
    paths = [str(tmp_path / "out" / name) for name in ("input_ids.npy", "label_mask.npy")]
    file = open_token_file(paths[0], vocab_size=900, need_header=True)
    assert file.tokens == 1600 * 64
    Manifest.from_paths(paths[:1], dtype="uint16", label_mask_paths=paths[1:]).open_files()
    ids, _ = read(tmp_path / "out", 64)
    assert (ids[::2] == ids[0]).all()
    assert (ids[1::2] == ids[1]).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ('{"text": "a"}', r"found keys \['text'\]; expected 'messages'"),
        ('{"messages": []}', r"messages is \[\]; expected a list of at least one"),
        ('{"messages": "a"}', "messages is 'a'; expected a list"),
        ('{"messages": ["a"]}', r"messages\[0\]: 'a'; expected an object"),
        (json.dumps(say(("user", "a"), ("Assistant", "b"))), r"messages\[1\]: role 'Assistant'"),
        ('{"messages": [{"role": "user", "content": null}]}', "content is None; expected a text"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "lone surrogate"),
    ],
)
def test_bad_lines_are_named(tokenizer_run: Path, tmp_path: Path, line: str, message: str) -> None:
    source = tmp_path / "chat.jsonl"
    source.write_text(f"{json.dumps(CHATS[0])}\n{line}\n")
    with pytest.raises(InputError, match=rf"chat\.jsonl:2: .*{message}"):
        prepare([source], ChatTokenizer(tokenizer_run), tmp_path / "out", sequence_length=64)
    assert not list((tmp_path / "out").iterdir())


def test_nothing_to_learn_is_refused(tokenizer_run: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "chat.jsonl", [CHATS[2], CHATS[4]])
    with pytest.raises(InputError, match=r"no label in the first 64 tokens .*\(2 read, 1 longer"):
        prepare([source], ChatTokenizer(tokenizer_run), tmp_path / "out", sequence_length=64)
    source = write(tmp_path / "long.jsonl", [CHATS[0]])
    with pytest.raises(InputError, match=r"first 2 tokens .*1 read, 1 longer"):
        prepare([source], ChatTokenizer(tokenizer_run), tmp_path / "out", sequence_length=2)
    with pytest.raises(ConfigError, match=r"--output: .*long\.jsonl: File exists"):
        prepare([source], ChatTokenizer(tokenizer_run), source, sequence_length=64)
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        prepare([tmp_path / "none.jsonl"], ChatTokenizer(tokenizer_run), tmp_path / "out",
                sequence_length=64)  # fmt: skip


def test_tokenizers_that_do_not_say_enough(tokenizer_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.json: no such file"):
        ChatTokenizer(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"broken\.json: no tokenizer\.json of Hugging Face's"):
        ChatTokenizer(tmp_path / "broken.json")
    bare = tmp_path / "bare.json"
    bare.write_bytes((tokenizer_run / "tokenizer.json").read_bytes())
    with pytest.raises(ConfigError, match="--eos_token: not given"):
        ChatTokenizer(bare)
    with pytest.raises(ConfigError, match=r"--pad_token: .* has no token '<pad>'"):
        ChatTokenizer(bare, eos_token=EOS, pad_token="<pad>")
    assert ChatTokenizer(bare, eos_token=EOS, pad_token=PAD).pad_token_id == 1
    config = {"eos_token": {"content": EOS, "special": True}, "pad_token": PAD}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert ChatTokenizer(bare).eos_token_id == 0


def test_an_eos_that_is_no_special_token(tmp_path: Path) -> None:
    """It melts into the text before it: no label would end an answer."""
    vocabulary = {character: number for number, character in enumerate("abĊ")}
    plain = Tokenizer(models.BPE(vocab={**vocabulary, "ab": 3}, merges=[("a", "b")]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.save(str(tmp_path / "plain.json"))
    tokenizer = ChatTokenizer(tmp_path / "plain.json", eos_token="b", pad_token="a")
    with pytest.raises(InputError, match=r"encoded as \[3, 2\], expected \[1, 2\]: it must keep"):
        list(tokenizer.rows([[("assistant", "a")]], 64))


def test_the_command(
    tokenizer_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "chat.jsonl", CHATS)
    command = [str(source), f"--tokenizer={tokenizer_run}", f"--output={tmp_path / 'out'}",
               "--sequence_length=64"]  # fmt: skip
    main(command)
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    for arguments, code, message in (
        (command, 2, "summary.json is there"),
        ([*command, "--sequence_length=1"], 2, "at least 2 tokens"),
        ([str(tmp_path / "none"), *command[1:2], f"--output={tmp_path / 'b'}"], 3, "no such file"),
        ([str(tmp_path), *command[1:2], f"--output={tmp_path / 'b'}"], 3, "not a file"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == code
        assert message in capsys.readouterr().err
