"""Names of jobs: what goes in comes out, and nothing else gets in."""

import re

import pytest

from olmo_core.errors import ConfigError
from pipelines import names
from pipelines.names import job_name, kubernetes_name, refusal

KEY = "0123456789abcdef0123456789abcdef"
LONG = "a" * 63

KINDS = {name: value for name, value in vars(names).items() if isinstance(value, names.Kind)}

RIGHT = {
    "TOKEN": ["gpu", "gpu_long", "a.b+c-1"],
    "TOKENS": ["gpu", "gpu,gpu_long"],
    "CONSTRAINT": ["a100", "a100&ib", "[rack1*2&rack2*4]", "(intel|amd)&ib"],
    "MODULE": ["cuda/12.4", "PyTorch/2.1.2-foss-2023a-CUDA-12.1.1", "gcc@12.2.0"],
    "IMAGE": [
        "olmo",
        "registry.example.org:5000/team/olmo:1.0",
        "docker://nvcr.io#nvidia/pytorch:24.01-py3",
        "/images/olmo.sif",
        "olmo@sha256:" + "0" * 64,
    ],
    "MOUNT": ["/a:/b", "/scratch/x-1:/scratch:ro"],
    "ABSOLUTE": ["/", "/opt/olmo/.venv/bin/python"],
    "PROGRAM": ["python3.11", "/opt/olmo/.venv/bin/python"],
    "VARIABLE": ["WANDB_MODE", "_x1"],
    "SECRETS_VARIABLE": ["OLMO_ALERTS_URL"],
    "VALUE": ["", "a b $(c) 'd' \"e\" `f` ünïcode %"],
    "DNS_LABEL": ["a", "team-lm"],
    "DNS_NAME": ["results", "results-v1.team"],
    "CONTEXT": ["arn:aws:eks:us-east-1:1234:cluster/x", "gke_p_zone_name", "me@cluster"],
    "LABEL_NAME": ["accelerator", "example.org/accelerator", "node.kubernetes.io/x_Y.z"],
    "LABEL_VALUE": ["", "h100", "NVIDIA-H100_80.GB"],
    "DASK_ADDRESS": ["tls://scheduler.lm:8786", "tcp://10.0.0.7:8786"],
}

WRONG = ["a\n", "\nb", "a\0", "a\rb", "é" * 5000, "a\u2028b"]
WRONG_WORD = ["-a", "--x", "a b", "$(touch x)", "`touch x`", "a;b", "a'b", 'a"b', "a\\b", "%j"]
WRONG_WORD += ["a>b", "a<b", "a#b\n", "../../x", "/a/../b", "/a/..:/b", "ｇpu", "~", "a!b", "a{b}"]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_right_is_taken(name: str) -> None:
    for value in RIGHT[name]:
        assert refusal(value, KINDS[name]) is None, value


@pytest.mark.parametrize("name", KINDS)
def test_what_could_mean_something_else_is_refused(name: str) -> None:
    for value in WRONG + ([] if name == "VALUE" else WRONG_WORD):
        reason = refusal(value, KINDS[name])
        assert reason is not None, value
        assert "\n" not in reason
        assert len(reason) < 300


def test_a_secret_in_the_place_of_a_name_is_not_shown() -> None:
    reason = refusal("hooks.example.org/canary", names.SECRETS_VARIABLE)
    assert "canary" not in str(reason)
    assert "not shown" in str(reason)


def test_a_job_has_a_name_by_which_it_is_found_again() -> None:
    name = job_name("demo", "stage2_ingredient1", KEY, 12)
    assert name == "olmo.demo.stage2_ingredient1.0123456789ab.12"


def test_a_label_has_a_name() -> None:
    for name in ("", "example.org/", "/accelerator"):
        assert refusal(name, names.LABEL_NAME) is not None


@pytest.mark.parametrize("attempt", [1, 999])
@pytest.mark.parametrize(("recipe", "asset"), [("demo", "stage1"), (LONG, LONG), ("A_", "B__")])
def test_a_kubernetes_name_is_a_label_with_room_for_a_pod(
    recipe: str, asset: str, attempt: int
) -> None:
    name = kubernetes_name(recipe, asset, KEY, attempt)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
    assert name.endswith(f"-0123456789ab-{attempt}")
    assert len(f"{name}-9999-abcde") <= 63


@pytest.mark.parametrize(
    ("recipe", "asset", "key", "attempt"),
    [
        ("$(touch x)", "stage1", KEY, 1),
        ("demo", "../x", KEY, 1),
        ("demo", "-x", KEY, 1),
        ("demo\n", "x", KEY, 1),
        ("a" * 64, "x", KEY, 1),
        ("demo", "x", "`touch x`", 1),
        ("demo", "x", KEY, 0),
    ],
)
def test_a_hostile_part_is_refused(recipe: str, asset: str, key: str, attempt: int) -> None:
    for make in (job_name, kubernetes_name):
        with pytest.raises(ConfigError):
            make(recipe, asset, key, attempt)
