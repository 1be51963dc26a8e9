"""What of a module counts: messages never do, and all that may have an effect does."""

import os
from pathlib import Path

import pytest

from olmo_core.run import code
from olmo_core.run.code import NEVER_COUNTS, PACKAGE_ROOT, counts
from olmo_core.run.source import Source, read_source

HEAD = "import logging\nimport sys\nimport warnings\nlog = logging.getLogger('olmo')\n"


def read(folder: Path, text: str) -> Source:
    return read_source(text.encode(), counts)


def body(folder: Path, statement: str) -> str:
    indented = "".join(f"    {line}\n" for line in statement.splitlines())
    return read(folder, f"{HEAD}def f(x, job):\n{indented}    return x\n").hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("raise ValueError('a')", "raise ValueError('b')"),
        ("raise ValueError('a')", "raise ValueError(f'{x.name}: {len(x)} of {sorted(x)[:3]}')"),
        ("raise ValueError('a') from None", "raise ValueError(f'{x!r}', 3) from None"),
        ("raise SystemExit('a')", "raise SystemExit(f\"{', '.join(x)}\")"),
        ("assert x, 'a'", "assert x, f'{x} b'"),
        ("assert x", "assert x, 'a'"),
        ("log.info('%d', x)", "log.warning('%s of %s', x.name, x[0])"),
        ("pass", "pass\nlog.info('step %d', x)"),
        ("pass", "pass\nif x.step % 10 == 0:\n    log.info('%.2f', x.loss)"),
        ("pass", "pass\nwarnings.warn(f'{x}', stacklevel=2)"),
        ("pass", "pass\nprint('a', x, file=sys.stderr)"),
        ("job.progress(1, 2, unit='a')", "job.progress(2, 3, unit='b', message=f'{x}')"),
        ("with job.timed('a'):\n    x += 1", "with job.timed('b'):\n    x += 1"),
    ],
)
def test_messages_do_not_count(tmp_path: Path, one: str, other: str) -> None:
    assert body(tmp_path, one) == body(tmp_path, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("raise ValueError('a')", "raise KeyError('a')"),
        ("raise ValueError('a')", "pass"),
        ("if x:\n    raise ValueError('a')", "if not x:\n    raise ValueError('a')"),
        ("raise ValueError('a')", "raise ValueError(x.pop())"),
        ("raise ValueError(f'{tidy(x)}')", "raise ValueError(f'{wipe(x)}')"),
        ("assert x, 'a'", "assert not x, 'a'"),
        ("log.info('%s', x)", "log.info('%s', x.pop())"),
        ("log.info('%s', x)", "log.info('%s', (x := 2))"),
        ("log.info('%s', x)", "log.info('%s', list(x))"),  # uses an iterator up
        ("log.info('%s', x)", "log.info('%s', [y for y in x])"),
        ("log.info('%s', x and f(x))", "log.info('%s', x or f(x))"),
        ("log.info('%s', x)", "x.info('%s', x)"),  # no logger
        ("log.setLevel(1)", "log.setLevel(2)"),
        ("print('a')", "print('b')"),  # standard output may be read
        ("job.progress(f(x), 2)", "job.progress(f(x + 1), 2)"),
        ("job.metric({'a': x})", "job.metric({'b': x})"),
        ("x.progress('a')", "x.progress('b')"),
        ("with job.timed('a'):\n    x += 1", "with job.timed('a'):\n    x += 2"),
        ("x = 'a'", "x = 'b'"),
        ("if x.pop():\n    log.info('a')", "pass"),
        ("x = x.replace('a', 'b')", "x = x.replace('a', 'c')"),
    ],
)
def test_what_may_have_an_effect_counts(tmp_path: Path, one: str, other: str) -> None:
    assert body(tmp_path, one) != body(tmp_path, other)


MODULE = '''"""Doc."""
from dataclasses import dataclass
LIMIT = 3


@dataclass
class Schedule:
    """Doc."""
    peak: float = 1.0

    def at(self, step):
        return self.peak * step


def helper(x):
    def inner(y):
        return y
    return inner(x)
'''


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (("Doc.", "Other."), set()),
        (("LIMIT = 3", "LIMIT = 4"), {"top level"}),
        (("peak: float = 1.0", "peak: float = 2.0"), {"class Schedule"}),
        (("self.peak * step", "self.peak + step"), {"function Schedule.at"}),
        (("return y", "return -y"), {"function helper"}),
        (("def helper(x)", "def helped(x)"), {"function helper", "function helped"}),
        (("from dataclasses", "from olmo_core.errors import A\nfrom dataclasses"), set()),
        (
            ("from dataclasses", "from olmo_core.errors import A as B\nfrom dataclasses"),
            {"imports"},
        ),
        (("from dataclasses", "from olmo_core.model import norm\nfrom dataclasses"), {"imports"}),
        (("from dataclasses import", "from attrs import"), {"imports"}),
    ],
)
def test_each_function_and_class_has_a_hash_of_its_own(
    tmp_path: Path, edit: tuple[str, str], changed: set[str]
) -> None:
    before, after = read(tmp_path, MODULE), read(tmp_path, MODULE.replace(*edit))
    names = before.definitions.keys() | after.definitions.keys()
    assert {n for n in names if before.definitions.get(n) != after.definitions.get(n)} == changed
    assert (before.hash != after.hash) == bool(changed)


def test_how_imports_are_written_does_not_count(tmp_path: Path) -> None:
    use = "\ndef f(x):\n    return a(b(x))\n"
    one = read(tmp_path, "from m import a\nfrom m import b\nimport sys" + use)
    assert one == read(tmp_path, "import sys\n\nfrom m import b, a" + use)
    inside = use.replace("return", "from m import b\n    return")
    assert one == read(tmp_path, "if x:\n    import sys\nfrom m import a" + inside)
    assert one.hash != read(tmp_path, "from n import a\nfrom m import b\nimport sys" + use).hash


def test_two_definitions_of_one_name_both_count(tmp_path: Path) -> None:
    getter = "class A:\n    @property\n    def x(self): return 1\n"
    text = getter + "    @x.setter\n    def x(self, y): {}\n"
    assert read(tmp_path, text.format("self.y = y")).hash != read(tmp_path, text.format("0")).hash


@pytest.mark.parametrize("name", NEVER_COUNTS)
def test_what_never_counts_is_matched_as_a_package(name: str) -> None:
    base = PACKAGE_ROOT.joinpath(*name.split("."))
    assert base.is_dir() or base.with_suffix(".py").is_file(), "no such package or module"
    assert not counts(name)
    assert not counts(f"{name}.below")
    assert counts(f"{name}ner")


def test_the_cache_is_of_this_very_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMO_CACHE", str(tmp_path / "cache"))
    module = tmp_path / "module.py"

    def now(text: str) -> Source:
        module.write_text(text)
        os.utime(module, ns=(0, 0))  # the time and, below, the size stay
        code._read.cache_clear()  # as in another process
        found = code._read(module, 0)
        assert found == read_source(text.encode(), counts)
        return found

    first = now("def f(): return 1\n")
    (entry,) = (tmp_path / "cache" / "code").iterdir()
    assert now("def f(): return 2\n").hash != first.hash
    whole = entry.read_text()
    entry.write_text(whole.replace(first.definitions["function f"], "0" * 8))
    module.write_text("def f(): return 1\n")
    code._read.cache_clear()
    assert code._read(module, 0).definitions["function f"] == "0" * 8  # it is what is read
    for damaged in (whole[:-20], "[]", "{}"):
        entry.write_text(damaged)
        assert now("def f(): return 1\n") == first
    monkeypatch.setenv("OLMO_CACHE", "/proc/no")
    assert now("def f(): return 1\n") == first
    monkeypatch.delenv("OLMO_CACHE")
    monkeypatch.setattr(Path, "home", no_home)
    assert now("def f(): return 1\n") == first


def no_home() -> Path:
    """As of a container's bare user id."""
    raise RuntimeError("Could not determine home directory.")
