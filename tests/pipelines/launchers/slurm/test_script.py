"""What Slurm is given, and what is made of what it says; a real Slurm is in tests/slurm."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assets.launcher import EngineError, EngineUnavailable, JobState, Launch
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.launchers.slurm import queue as slurm_queue
from pipelines.launchers.slurm.launcher import described
from pipelines.launchers.slurm.queue import Queue, Snapshot, gone_job
from pipelines.launchers.slurm.script import Batch, job_command
from pipelines.site.file import ResourceSpec, Site, SlurmSite

WORK = ResourceSpec(
    engine="slurm", nodes=2, processes_per_node=8, devices_per_node=8, cpus_per_node=96
)


def launch(root: Path, *, distributed: bool = True, shares_tasks: bool = False) -> Launch:
    return Launch(
        folder=RunFolder(root / "toy" / "stage1" / "0"),
        module="olmo_core.train",
        stage="train",
        config={},
        identity={"recipe": "toy", "asset": "stage1"},
        distributed=distributed,
        shares_tasks=shares_tasks,
        environment={"OLMO_ROOT": str(root)},
    )


def batch(
    site: SlurmSite, work: ResourceSpec, *launches: Launch, path: str = "/r/log/submission1.sbatch"
) -> Batch:
    shape = Site(slurm=site, work={"train": work}).work_of(launches[0])
    return Batch(site=site, work=shape, launches=launches, name="olmo.n", path=Path(path))


def test_every_option_is_an_argument_of_its_own(tmp_path: Path) -> None:
    site = SlurmSite(partition="gpu", account="lm", qos="high", constraint="a100&ib")
    work = ResourceSpec(
        engine="slurm",
        nodes=2,
        cpus_per_node=4,
        memory_gib_per_node=16,
        time_limit_minutes=90,
        partition="long",
    )
    assert batch(site, work, launch(tmp_path)).command == [
        *("sbatch", "--parsable", "--requeue", "--job-name=olmo.n", "--partition=long"),
        *("--account=lm", "--qos=high", "--constraint=a100&ib", "--nodes=2", "--ntasks-per-node=1"),
        *("--cpus-per-task=4", "--mem=16G", "--time=90", "--signal=B:USR1@120"),
        *("--open-mode=append", "--output=/r/log/submission1.log", "--export=ALL"),
        "/r/log/submission1.sbatch",
    ]


def test_training_without_cores_takes_whole_nodes_and_one_process_takes_one_node(
    tmp_path: Path,
) -> None:
    work = ResourceSpec(engine="slurm", nodes=4)
    many, one = launch(tmp_path), launch(tmp_path, distributed=False)
    assert {"--exclusive", "--nodes=4"} <= set(batch(SlurmSite(), work, many).command)
    command = batch(SlurmSite(), work, one).command
    assert "--exclusive" not in command
    assert "--nodes=1" in command


@pytest.mark.parametrize(
    ("path", "tasks", "expected"),
    [
        ("/a%j b/1.sbatch", 1, "/a%%j b/1.log"),
        ("/a%j/array.sbatch", 2, "/a%%j/%a.log"),
        ("/a\\%j/1.sbatch", 1, "/a\\\\%j/1.log"),  # after a backslash nothing is replaced
    ],
)
def test_the_logs_path_is_taken_as_it_is(
    tmp_path: Path, path: str, tasks: int, expected: str
) -> None:
    made = batch(SlurmSite(), WORK, *[launch(tmp_path)] * tasks, path=path)
    assert f"--output={expected}" in made.command


def test_workers_are_further_tasks_with_logs_of_their_own(tmp_path: Path) -> None:
    work = ResourceSpec(engine="slurm", workers=3)
    job = launch(tmp_path, distributed=False, shares_tasks=True)
    command = batch(SlurmSite(), work, job, path="/a%j/submission1.sbatch").command
    assert {"--array=0-3", "--output=/a%%j/submission1.worker%a.log", "--nodes=1"} <= set(command)
    made = batch(SlurmSite(), work, job, path="/a\\b/1.sbatch")
    with pytest.raises(ConfigError, match="backslash"):
        _ = made.command
    other = launch(tmp_path, distributed=False)  # of the same stage, but without tasks to share
    made = batch(SlurmSite(), work, other)
    assert not [word for word in made.command if word.startswith("--array")]
    assert "OLMO_WORKER" not in made.script


@pytest.mark.parametrize("task", [None, 0, 2])
def test_the_first_task_leads_and_the_others_are_workers(tmp_path: Path, task: int | None) -> None:
    says = tmp_path / "says"
    says.write_text('#!/bin/bash\nprintf "%s\\n" "$@" "$OLMO_WORKERS" "${OLMO_WORKER-none}"\n')
    says.chmod(0o755)
    root = tmp_path / "r $(touch canary)'"
    job = launch(root, distributed=False, shares_tasks=True)
    made = batch(SlurmSite(python=str(says)), ResourceSpec(engine="slurm", workers=3), job)
    done = subprocess.run(
        ["bash", "-c", made.script],
        env={
            "SLURM_CPUS_ON_NODE": "4",
            **({} if task is None else {"SLURM_ARRAY_TASK_ID": str(task)}),
            "PATH": os.environ["PATH"],
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    module = "tasks.worker" if task else "supervisor.supervise"
    assert done.stdout.splitlines() == [
        *("-m", f"olmo_core.{module}", str(job.folder.path)),
        *("3", str(task) if task else "none"),
    ]
    assert not list(tmp_path.rglob("canary"))


def test_an_array_below_a_backslash_is_refused(tmp_path: Path) -> None:
    made = batch(SlurmSite(), WORK, *[launch(tmp_path)] * 2, path="/a\\b/array.sbatch")
    with pytest.raises(ConfigError, match="backslash"):
        _ = made.command


def test_the_script_gives_its_shell_to_the_supervisor(tmp_path: Path) -> None:
    """Run by a real bash, with a stand-in for Python that says what it was given."""
    says = tmp_path / "says"
    says.write_text('#!/bin/bash\nprintf "%s\\n" "$@" "$OMP_NUM_THREADS" "$ODD" "$$"\n')
    says.chmod(0o755)
    odd = "a 'b' \"c\" $(touch canary) `touch canary` \\ %"
    site = SlurmSite(python=str(says), environment={"ODD": odd})
    root = tmp_path / "r $(touch canary)\n'"
    made = batch(site, WORK, launch(root))
    done = subprocess.Popen(
        ["bash", "-c", made.script],
        env={"SLURM_CPUS_ON_NODE": "96", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = done.communicate()
    folder = made.launches[0].folder.path
    lines = ["-m", "olmo_core.supervisor.supervise", str(folder), "12", odd, str(done.pid)]
    assert said == "\n".join(lines) + "\n"
    assert not list(tmp_path.rglob("canary"))


def test_modules_are_loaded_by_a_login_shell_and_arrays_pick_their_folder(tmp_path: Path) -> None:
    launches = [launch(tmp_path / name) for name in ("a", "b c")]
    text = batch(SlurmSite(modules=("cuda/12.4",)), WORK, *launches).script
    assert text.startswith("#!/bin/bash -l\nset -e\nmodule load cuda/12.4\n")
    assert '\nfolder="${folders[SLURM_ARRAY_TASK_ID]}"\n' in text
    shown = text[text.index("folders=(") : text.index("\ncd ")] + '\necho "$folder"'
    done = subprocess.run(
        ["bash", "-c", shown],
        env={"SLURM_ARRAY_TASK_ID": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == f"{launches[1].folder.path}\n"


def test_ranks_run_in_a_container_and_their_supervisor_outside(tmp_path: Path) -> None:
    pyxis = SlurmSite(container="registry.example.org#olmo:1", mounts=("/a:/a", "/b:/b:ro"))
    command = job_command(pyxis, WORK, launch(tmp_path))
    assert command[0] == "srun"
    assert "--container-image=registry.example.org#olmo:1" in command
    assert "--container-mounts=/a:/a,/b:/b:ro" in command
    assert command[-4:-1] == ["python3", "-m", "olmo_core.supervisor.node"]
    apptainer = SlurmSite(container="/i/olmo.sif", mounts=("/a:/a",), python="/opt/python")
    one = launch(tmp_path, distributed=False)
    command = job_command(apptainer, WORK, one)
    assert command[:5] == ["apptainer", "exec", "--nv", "--bind", "/a:/a"]
    assert command[command.index("/i/olmo.sif") + 1] == "/opt/python"
    for site in (pyxis, apptainer):
        last = batch(site, WORK, one).script.splitlines()[-1]
        assert last == f'exec {sys.executable} -m olmo_core.supervisor.supervise "$folder"'


def test_values_of_the_submitter_go_by_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "canary-value")
    monkeypatch.setenv("OTHER", "canary-value")
    site = SlurmSite(pass_environment=("WANDB_API_KEY", "NOT_SET"))
    made = batch(site, WORK, launch(tmp_path))
    given = slurm_queue.passed_environment(site.pass_environment)
    assert given["WANDB_API_KEY"] == "canary-value"
    assert not {"OTHER", "NOT_SET"} & set(given)
    assert "canary-value" not in made.script + str(made.command)


QUEUE = """\
12|RUNNING|0|1|n[1-2]|None|olmo.toy.first.0123456789ab.1|
13_7|PENDING|0|0||Resources|olmo.toy.first.0123456789ab.2|
14|FAILED|768|0|n1|NonZeroExitCode|olmo.toy.first.0123456789ab.3|
15|FAILED|9|0|n1|RaisedSignal:9(Killed)|olmo.toy.first.0123456789ab.4|
16|RUNNING|0|0|n1|None|another|job|
of two lines|
"""


def test_the_queues_lines_are_read_and_other_peoples_oddities_passed_over() -> None:
    entries = Snapshot(text=QUEUE).entries
    assert {job_id: described(entry) for job_id, entry in entries.items()} == {
        "12": JobState(alive=True, description="job 12 running on n[1-2], its turn 2"),
        "13_7": JobState(alive=True, queued=True, description="job 13_7 pending: Resources"),
        "14": JobState(alive=False, exit_code=3, ended="FAILED"),
        "15": JobState(alive=False, exit_code=-9, ended="FAILED"),
    }


def test_workers_at_work_are_counted() -> None:
    entries = Snapshot(text=QUEUE).entries
    said = described(entries["12"], [entries["12"], entries["13_7"], None])
    assert said.description == "job 12 running on n[1-2], its turn 2, 1 of 3 workers"


def test_an_error_of_the_queue_keeps_what_was_known_and_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_queue.tempfile, "tempdir", str(tmp_path))
    answers: list[str] = [QUEUE]
    asked: list[str] = []

    def ask(command: object) -> str:
        asked.append("asked")
        if not answers:
            raise EngineUnavailable("squeue: no answer")
        return answers.pop()

    one, other = Queue(1000.0, ask=ask), Queue(1000.0, ask=ask)
    first = one.look()
    assert other.look() == first
    assert len(asked) == 1
    later = other.look(newer_than=first.asked + 1e-6)
    assert (later.error, later.time, later.entries) == (
        "squeue: no answer",
        first.time,
        first.entries,
    )
    assert one.look(newer_than=later.asked) == later
    assert len(asked) == 2


def test_a_shared_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_queue.tempfile, "tempdir", str(tmp_path))
    folder = slurm_queue.shared_folder()
    folder.chmod(0o777)
    with pytest.raises(EngineError, match="not a folder of this user alone"):
        slurm_queue.shared_folder()
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    with pytest.raises(EngineError, match="not a folder of this user alone"):
        slurm_queue.shared_folder()


def test_accounting_says_how_a_forgotten_job_ended() -> None:
    def ask(command: object) -> str:
        assert isinstance(command, list)
        if command[0] == "sacct":
            return "CANCELLED by 1000|0:15\n"
        raise EngineError("Invalid job id specified")

    assert gone_job("7", ask=ask) == JobState(alive=False, exit_code=-15, ended="CANCELLED")


def test_commands_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EngineError, match="squeue: not on the PATH"):
        slurm_queue.client(["squeue"])
