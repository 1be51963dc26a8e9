"""The command: what it says without training, and that saying it needs no torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from olmo_core.train.__main__ import main

NO_TORCH = "import sys; sys.modules['torch'] = None; from olmo_core.train.__main__ import main; "


def test_a_dry_run_needs_no_torch_and_no_data(config_file: Path) -> None:
    arguments = [str(config_file), "--json", "--lr_at=1,3,12", "data.paths=null"]
    done = subprocess.run(
        [sys.executable, "-c", f"{NO_TORCH}main({arguments!r})"],
        capture_output=True,
        text=True,
        check=True,
    )
    planned = json.loads(done.stdout)
    assert planned["parameters"] == {"total": 9_360, "without_input_embedding": 7_312}
    assert planned["tokens_per_step"] == 256
    assert planned["max_steps"] == 12
    assert planned["learning_rate"]["3"] == pytest.approx(1e-2)
    assert planned["learning_rate"]["12"] == pytest.approx(1e-3)
    assert planned["config"]["core"]["order"] == "feistel"


def test_the_dry_run_s_rates_are_those_that_a_run_logs(
    config_file: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from olmo_core.run.folder import read_metrics

    main([str(config_file), "--json", "--lr_at=" + ",".join(map(str, range(1, 13)))])
    planned = json.loads(capsys.readouterr().out)["learning_rate"]
    rows = read_metrics(undisturbed / "metrics.jsonl")
    assert {str(row["step"]): row["optim/learning_rate_group0"] for row in rows} == planned


def test_epochs_without_data_have_no_number_of_steps(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(config_file), "--dry_run", "max_duration=2ep", "data.paths=null"])
    assert "epochs need the size of the data" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--dry_run", "--dry_run=true", "dry_run=true"])
def test_a_dry_run_is_a_key_like_others(
    config_file: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    main([str(config_file), flag, "load_path=${path.last_checkpoint:/nowhere}"])
    assert "memory per device" in capsys.readouterr().out


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "torchrun --nproc-per-node=2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{config}", "optimizer.learning_rat=1"], 2, "did you mean 'learning_rate'?"),
        (["{config}", "--dry_run", "--lr_at=x"], 2, "--lr_at=x"),
        (["{config}", "--dry_run", "--lr_at=inf"], 2, "--lr_at=inf"),
        (["{config}", "--dry_run", "--lr_at=0,-1"], 2, "--lr_at=0,-1"),
        (["/nowhere.yaml"], 2, "no such file"),
        (["{config}", "save_folder="], 2, "override: save_folder: empty"),
        (["{config}", "data.paths=null", "save_folder={folder}"], 2, "no data"),
        (["{config}", "data.paths=[]", "save_folder={folder}"], 2, "no data"),
        (["{config}", "data.paths=[/no.npy]", "save_folder={folder}"], 3, "data.paths[0]: /no.npy"),
    ],
)
def test_errors_say_what_and_exit_with_their_code(
    arguments: list[str],
    code: int,
    message: str,
    config_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main([part.format(config=config_file, folder=tmp_path / "run") for part in arguments])
    assert end.value.code == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=9", "learns by other values (seed 1 -> 9)"),
        ("stop_at=20", "finished at step 12, before stop_at 20"),
    ],
)
def test_a_finished_run_is_not_asked_for_what_it_would_not_do(
    config_file: Path,
    undisturbed: Path,
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    main([str(config_file), f"save_folder={undisturbed}", "stop_at=5"])  # it has gone that far
    with pytest.raises(SystemExit) as end:
        main([str(config_file), f"save_folder={undisturbed}", override])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
