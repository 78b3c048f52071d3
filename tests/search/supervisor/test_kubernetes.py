"""The manifest, against Kubernetes' own schemas and our exit codes."""

import json

import kubernetes_validate
import pytest

from search.cli.app import main
from search.errors import SearchError
from search.supervisor.launchers.kubernetes import manifest
from search.worker.contract import Left

URL = "postgresql://user@database/studies"
VERSIONS = ["1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"]


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "options",
    [{}, {"gpus": 2, "queue": "research"}, {"checkpoints": "s3://bucket/prefix"}],
    ids=["plain", "gpu-and-kueue", "s3"],
)
def test_the_manifest_is_valid(version: str, options: dict[str, object]) -> None:
    job = manifest("My_study.v2", workers=64, image="image:1", storage=URL, **options)
    kubernetes_validate.validate(json.loads(json.dumps(job)), version, strict=True)


def what_follows(code: int) -> str:
    """What Kubernetes does with a pod whose worker ended with this code: the first rule counts."""
    job = manifest("cnn", workers=2, image="image:1", storage=URL)
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", []):
            return str(rule["action"])
    return "Count"


def test_the_failure_policy_knows_why_a_worker_left() -> None:
    assert what_follows(Left.REFUSED) == "FailJob"
    assert what_follows(Left.ASKED) == "Ignore"
    assert what_follows(Left.STORAGE) == "Ignore"
    assert what_follows(1) == what_follows(137) == "Count"


@pytest.mark.parametrize(
    ("storage", "line"),
    [
        ("sqlite:///a.db", "need a storage that all of them reach"),
        ("embedded", "need a storage that all of them reach"),
        ("postgresql://user:secret@host/db", "without a password"),
        ("postgresql://user@host/db?password=secret", "without a password"),
        ("postgresql://user:with/secret@host/db", "without a password"),
        ("postgresql://user:sec?ret@host/db", "without a password"),
        ("postgresql://user@host/db?pass%77ord=secret", "without a password"),
        ("postgresql://user:secret@host:port/db", "got postgresql://user:...@host:port/db; "),
    ],
)
def test_what_pods_cannot_use_is_refused_without_its_password(storage: str, line: str) -> None:
    with pytest.raises(SearchError, match=line) as refused:
        manifest("cnn", workers=2, image="image:1", storage=storage)
    assert "secret@" not in str(refused.value)
    assert "=secret" not in str(refused.value)


def test_credentials_of_checkpoints_are_refused_and_not_shown() -> None:
    with pytest.raises(SearchError, match="holds no credentials") as refused:
        manifest("cnn", workers=2, image="i", storage=URL, checkpoints="s3://key:secret@bucket/x")
    assert "secret@" not in str(refused.value)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["manifest", "cnn", "--workers", "3", "--image", "image:1", "--storage", URL]
    assert main([*argv, "--gpus-per-worker", "2"]) == 0
    job = json.loads(capsys.readouterr().out)
    assert job["spec"]["completions"] == 3
    (worker,) = job["spec"]["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "2"
