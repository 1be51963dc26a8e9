"""The table, the page of a model and the comparison, over run folders that are made up."""

import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.pipelines.explorer.conftest import VERSION, make_run, recorded, row

OTHER = "abcdef012345"


def test_an_empty_root_says_how_to_begin(client: TestClient) -> None:
    assert "olmo run demo" in client.get("/").text


def test_the_table_has_every_training_and_soup_with_its_state(
    client: TestClient, root: Path
) -> None:
    make_run(root, f"demo/stage1/{VERSION}", config={"optimizer": {"learning_rate": 0.004}})
    running = make_run(
        root,
        f"demo_lr/stage1/{OTHER}",
        config={"optimizer": {"learning_rate": 0.008}},
        steps=7,
        finished=False,
    )
    make_run(root, f"demo/soup/{VERSION}.2")
    make_run(root, f"demo/tokens/{VERSION}")
    text = client.get("/").text
    assert text.count('<input type="checkbox"') == 3
    assert "silent" in text  # its heartbeat is of long ago
    assert "7 of 20" in " ".join(text.split())
    assert "optimizer.learning_rate" in text
    assert f"/model/demo/soup/{VERSION}.2" in text
    status = json.loads((running / "status.json").read_text())
    (running / "status.json").write_text(json.dumps({**status, "state": "failed", "error": "<b>!"}))
    text = client.get("/").text
    assert "failed" in text
    assert "&lt;b&gt;!" in text


def test_a_model_without_a_recipe_is_shown_with_what_is_known(
    client: TestClient, root: Path
) -> None:
    make_run(root, f"gone/stage1/{VERSION}")
    answer = client.get("/model/gone/stage1")
    assert answer.status_code == 200
    assert "unknown recipe" in answer.text  # why there are no curves of evaluations
    assert '"loss"' not in answer.text
    assert "training loss" in answer.text
    assert f"/step/gone/stage1/{VERSION}?step=20" in answer.text


def test_spikes_and_skipped_steps_lead_to_their_documents(client: TestClient, root: Path) -> None:
    run = make_run(root, f"demo/stage1/{VERSION}")
    rows = [row(21, **{"spike/loss": 1}), row(22, **{"optim/step_skipped": 1.0})]
    with (run / "metrics.jsonl").open("a") as lines:
        lines.writelines(f"{json.dumps(each)}\n" for each in rows)
    text = client.get("/model/demo/stage1").text
    for why, step in (("spike", 21), ("skipped", 22), ("last", 22)):
        assert f'?step={step}" class="{why}">{why}: step {step}<' in text


def test_torn_metrics_are_said(client: TestClient, root: Path) -> None:
    run = make_run(root, f"demo/stage1/{VERSION}")
    content = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text('{"step": 1, "tra\n' + content + '{"step": 21, "tr')
    text = client.get("/model/demo/stage1").text
    assert "1 of its lines are torn" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("launch.json", '{"schema_version": 1,\n}\n'),
        ("result.json", '{"schema_version": 1,\n}\n'),
        ("launch.json", '{"schema_version": 1, "parts": [1]\n}\n'),
        ("result.json", '{"schema_version": 1, "report": 7\n}\n'),
        ("result.json", '{"schema_version": 1, "finished": "today"\n}\n'),
    ],
)
def test_a_damaged_folder_is_a_row_that_says_so(
    client: TestClient, root: Path, name: str, content: str
) -> None:
    run = make_run(root, f"demo/stage1/{VERSION}")
    make_run(root, f"demo/stage1/{OTHER}")
    (run / name).write_text(content)
    answer = client.get("/")
    assert answer.status_code == 200
    assert "damaged" in answer.text
    assert f"/model/demo/stage1/{OTHER}" in answer.text
    assert client.get(f"/model/demo/stage1/{VERSION}").status_code in (200, 422)


def test_descent_leads_from_the_soup_to_the_first_weights(client: TestClient, root: Path) -> None:
    make_run(root, f"demo/stage1/{VERSION}")
    stage1 = {"stage1": recorded(f"demo/stage1/{VERSION}")}
    names = ["stage2_ingredient1", "stage2_ingredient2"]
    for name in names:
        make_run(root, f"demo/{name}/{VERSION}", inputs=stage1, parent={"step": 20})
    inputs = {name: recorded(f"demo/{name}/{VERSION}") for name in names}
    parents = [{"model": name, "step": 20, "tokens": 1} for name in names]
    make_run(root, f"demo/soup/{VERSION}", inputs=inputs, parents=parents, weights=[0.25, 0.75])
    text = client.get("/model/demo/soup").text
    places = [text.index(f"/model/demo/{name}/{VERSION}") for name in (*names, "stage1")]
    assert places == sorted(places)
    assert text.count(f'href="/model/demo/stage1/{VERSION}"') == 1  # of both ingredients, once
    assert "weight 0.25" in text


def test_descent_says_what_is_gone_and_what_is_damaged(client: TestClient, root: Path) -> None:
    names = ["stage2_ingredient1", "stage2_ingredient2", "stage2_ingredient3"]
    for name in names[:2]:
        make_run(root, f"demo/{name}/{VERSION}")
    inputs = {name: recorded(f"demo/{name}/{VERSION}") for name in names}
    make_run(root, f"demo/soup/{VERSION}", inputs=inputs)
    (root / f"demo/{names[1]}/{VERSION}/result.json").write_text('{"schema_version": 1,\n}\n')
    answer = client.get("/model/demo/soup")
    assert answer.status_code == 200
    cards = dict(zip(names, answer.text.split('<div class="ancestor')[2:], strict=True))
    assert "damaged" not in cards[names[0]]
    assert '<span class="state damaged">damaged</span>' in cards[names[1]]
    assert "its run is not here any more" in cards[names[2]]


def test_experiments_side_by_side(client: TestClient, root: Path) -> None:
    for version, rate in ((VERSION, 0.004), (OTHER, 0.008)):
        config = {"optimizer": {"learning_rate": rate}, "seed": 42069}
        make_run(root, f"demo/stage1/{version}", config=config)
    chosen = [f"demo/stage1/{VERSION}", f"demo/stage1/{OTHER}"]
    text = client.get("/compare", params={"run": chosen}).text
    cells = re.findall(r"<td>([^<]*)</td>", text.partition("What differs")[2])
    assert cells == ["optimizer.learning_rate", "0.004", "0.008"]
    assert "42069" not in text  # is the same in both
    chart = text.partition('id="chart-curves">')[2].partition("</script>")[0]
    drawn = json.loads(chart)
    assert [len(line["values"]) for line in drawn["lines"]] == [20, 20]
    names = [f"demo/stage1 {VERSION}", f"demo/stage1 {OTHER}"]
    assert [line["name"] for line in drawn["lines"]] == names


def test_what_cannot_be_compared_is_refused(client: TestClient, root: Path) -> None:
    make_run(root, f"demo/stage1/{VERSION}")
    assert client.get("/compare").status_code == 422
    assert client.get("/compare?run=demo/stage1/nope").status_code == 404
    for number in range(21):
        make_run(root, f"demo/stage1/{number:012x}")
    many = [f"demo/stage1/{number:012x}" for number in range(21)]
    assert client.get("/compare", params={"run": many}).status_code == 422


def test_a_recipe_that_is_not_there_or_broken_is_a_page(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = root.parent / "recipes" / "broken"
    broken.mkdir(parents=True)
    (broken / "corpus.yaml").write_text("raw: [")
    monkeypatch.setenv("OLMO_RECIPES", str(broken.parent))
    assert client.get("/plan/nothing").status_code == 404
    answer = client.get("/plan/broken")
    assert answer.status_code == 422
    assert "corpus.yaml" in answer.text
    assert client.get("/documents/broken?q=x").status_code == 422


def test_an_error_of_ours_shows_no_traceback(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("pipelines.explorer.app.plan_page", fail)
    answer = client.get("/plan/demo")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_what_cannot_be_read_is_said_on_the_page_and_where_in_the_log(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("figure")

    monkeypatch.setattr("pipelines.explorer.app.plan_page", fail)
    answer = client.get("/plan/demo")
    assert answer.status_code == 422
    assert "KeyError" in answer.text
    assert "Traceback" not in answer.text
    assert "Traceback" in capsys.readouterr().err


def test_a_long_chain_of_runs_is_shown_to_its_first(client: TestClient, root: Path) -> None:
    before: dict[str, object] = {}
    for number in range(1, 31):
        version = f"{number:012x}"
        make_run(root, f"demo/stage1/{version}", inputs=before)
        before = {"stage1": recorded(f"demo/stage1/{version}")}
    assert f"{1:012x}" in client.get(f"/model/demo/stage1/{30:012x}").text


def test_a_chain_of_runs_without_end_is_a_page(client: TestClient, root: Path) -> None:
    one, two = f"demo/stage1/{1:012x}", f"demo/stage1/{2:012x}"
    make_run(root, one, inputs={"stage1": recorded(two)})
    make_run(root, two, inputs={"stage1": recorded(one)})
    assert client.get(f"/model/{one}").status_code == 200


def test_what_is_saved_names_no_host_and_no_folder(client: TestClient, root: Path) -> None:
    run = make_run(root, f"demo/stage1/{VERSION}", finished=False)
    status = json.loads((run / "status.json").read_text())
    failed = {**status, "state": "failed", "error": f"{root}/secret: gone"}
    (run / "status.json").write_text(json.dumps(failed))
    began = {"schema_version": 1, "attempt": 1, "event": "began", "time": 1e9, "engine": "slurm"}
    (run / "attempts.jsonl").write_text(json.dumps({**began, "host": "login7", "nodes": []}))
    for address in ("/", "/model/demo/stage1"):
        assert "secret" in client.get(address).text
        saved = client.get(f"{address}?save")
        assert "attachment" in saved.headers["content-disposition"]
        for name in ("login7", "slurm", str(root), "secret"):
            assert name not in saved.text, name
    assert "login7" in client.get("/model/demo/stage1").text
