"""The shares of sources on a model's page: counted, or expected where counting takes long."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from olmo_core.release.tokens_read import tokens_read
from tests.olmo_core.lineage.mixed import SIZES, loader
from tests.pipelines.explorer.conftest import VERSION, make_run, recorded, write

MIX = f"demo/stage1_mix/{VERSION}"


@pytest.fixture
def read(root: Path) -> Mapping[str, int]:
    """A run that has read two epochs and a third of a third; the tokens of each source."""
    mix = make_run(root, MIX)
    order = loader(mix).order_spec()
    result = json.loads((mix / "result.json").read_text())
    rows = [{"source": name, "share": size / sum(SIZES.values())} for name, size in SIZES.items()]
    result["report"]["tables"] = {"sources": rows}
    write(mix / "result.json", result)
    facts = {"first_step": 0, "order": order}
    inputs = {"stage1_mix": recorded(MIX)}
    make_run(root, f"demo/stage1/{VERSION}", steps=285, inputs=inputs, **facts)
    return tokens_read(mix, {**facts, "step": 285})


def drawn(text: str, name: str) -> dict[str, float]:
    """The shares read, as the page's chart draws them, by source."""
    chart = text.partition(f'id="chart-mix-stage1_mix-{VERSION}">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(chart)
    [column] = [each for each in found["columns"] if each["name"] == name]
    return dict(zip(found["names"], column["values"], strict=True))


def test_they_are_counted(client: TestClient, read: Mapping[str, int]) -> None:
    text = client.get(f"/model/demo/stage1/{VERSION}").text
    total = sum(read.values())
    assert drawn(text, "read") == pytest.approx(
        {name: tokens / total for name, tokens in read.items()}
    )
    assert "percentage points" not in text


def test_where_that_is_long_they_are_expected_with_their_error(
    client: TestClient, read: Mapping[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.explorer.mixes.MOST_WINDOWS", 100)
    text = client.get(f"/model/demo/stage1/{VERSION}").text
    said = re.search(r"± ([0-9.]+) percentage points \(two standard errors\)", text)
    assert said is not None
    assert "olmo run demo --select model_card" in text  # has the count
    total, found = sum(read.values()), drawn(text, "read (expected)")
    assert sum(found.values()) == pytest.approx(1)
    for name, tokens in read.items():
        assert found[name] != tokens / total
        assert abs(found[name] - tokens / total) < 2 * float(said[1]) / 100
