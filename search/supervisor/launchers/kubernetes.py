"""A study's workers as a Kubernetes Job, printed for `kubectl apply -f -`.

Nothing here talks to a cluster. JSON is YAML, so the manifest needs no further library.
"""

import re
from typing import Any

import sqlalchemy as sa

from search.address import shown
from search.errors import SearchError
from search.storage.files import check_address
from search.worker.contract import NAME_VARIABLE, STOP_SECONDS, STORAGE_VARIABLE, Left

__all__ = ["manifest"]

USER = 10001  # of the image
GRACE_SECONDS = int(STOP_SECONDS) + 20  # between SIGTERM and SIGKILL
CRASHES = 10  # of one index before it is given up
KEPT_SECONDS = 86_400  # after the Job has ended


def manifest(
    study: str,
    *,
    workers: int,
    image: str,
    storage: str,
    checkpoints: str | None = None,
    threads: int = 1,
    gpus: int = 0,
    memory: str = "4Gi",
    queue: str | None = None,
) -> dict[str, Any]:
    """An Indexed Job of so many workers.

    The database's password is no part of it: the pods read it from the Secret
    ``fmnist-hpo-postgres``, and credentials of an object store from ``fmnist-hpo-s3``.

    What happens to a pod follows from its worker's exit code: 2 (refused, halted) ends the Job, 75
    (asked to leave) and a disruption of its node replace the pod and count as no failure, anything
    else is a crash of that index.

    Args:
        storage: a postgresql:// URL that pods can reach, without a password.
        checkpoints: s3://bucket/prefix; None for the study's own.
        gpus: whole GPUs of one worker.
        memory: request and limit of one worker, as Kubernetes writes it.
        queue: of Kueue; the Job is then created suspended.

    Returns:
        batch/v1 Job as nested dicts, ready for `json.dumps`.

    Raises:
        SearchError: pods cannot use that storage, or an address holds a secret.
    """
    if not storage.startswith("postgresql"):
        raise SearchError(
            f"pods need a storage that all of them reach, got {storage.split('://')[0]}://...; "
            "name a postgresql:// URL with --storage"
        )
    if _has_password(storage):
        raise SearchError(
            "need a storage URL without a password, as a manifest is read by many; put the "
            "password into the Secret fmnist-hpo-postgres, key `password`"
        )
    if checkpoints:
        check_address(checkpoints)
    labels = {
        "app.kubernetes.io/name": "fmnist-hpo",
        "app.kubernetes.io/component": "worker",
        "fmnist-hpo/study": _label(study),
    }
    limits = {"memory": memory} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    worker: dict[str, Any] = {
        "name": "worker",
        "image": image,
        "args": ["worker", study, *(["--checkpoints", checkpoints] if checkpoints else [])],
        "env": [
            {"name": STORAGE_VARIABLE, "value": storage},
            # Unique for each attempt, as a pod is never restarted but replaced.
            {"name": NAME_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "OMP_NUM_THREADS", "value": str(threads)},
            {"name": "PGPASSFILE", "value": "/tmp/.pgpass"},
            {"name": "MPLCONFIGDIR", "value": "/tmp/matplotlib"},
        ],
        "resources": {"requests": {"cpu": str(threads), "memory": memory}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True},
            {"name": "runs", "mountPath": "/home/fmnist/runs"},
            {"name": "cache", "mountPath": "/home/fmnist/.cache/fmnist-hpo"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    if checkpoints and checkpoints.startswith("s3://"):
        worker["envFrom"] = [{"secretRef": {"name": "fmnist-hpo-s3", "optional": True}}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": _name(study),
            "labels": labels | ({"kueue.x-k8s.io/queue-name": queue} if queue else {}),
        },
        "spec": {
            **({"suspend": True} if queue else {}),
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            "backoffLimitPerIndex": CRASHES,
            "maxFailedIndexes": workers // 2,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER,
                        "fsGroup": USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [worker],
                    "volumes": [
                        {
                            "name": "secrets",
                            "secret": {
                                "secretName": "fmnist-hpo-postgres",
                                "items": [{"key": "password", "path": "postgres_password"}],
                                "defaultMode": 0o440,
                            },
                        },
                        {"name": "runs", "emptyDir": {}},
                        {"name": "cache", "emptyDir": {}},
                        {"name": "tmp", "emptyDir": {}},
                    ],
                },
            },
        },
    }


def _has_password(storage: str) -> bool:
    """Whether a driver would find a password in a URL, however it is written there."""
    try:
        url = sa.make_url(storage)
    except (sa.exc.ArgumentError, ValueError):
        raise SearchError(
            f"need a storage such as postgresql://USER@HOST/DATABASE, got {shown(storage)}; "
            "correct --storage"
        ) from None
    return url.password is not None or any("password" in key.lower() for key in url.query)


def _failure_rules() -> list[dict[str, Any]]:
    def on_exit(action: str, left: Left) -> dict[str, Any]:
        codes = {"containerName": "worker", "operator": "In", "values": [int(left)]}
        return {"action": action, "onExitCodes": codes}

    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return [
        on_exit("FailJob", Left.REFUSED),
        on_exit("Ignore", Left.ASKED),
        on_exit("Ignore", Left.STORAGE),
        {"action": "Ignore", "onPodConditions": [disrupted]},
    ]


def _name(study: str) -> str:
    """A DNS label of the study's name."""
    return f"fmnist-hpo-{_label(study).lower().replace('_', '-').replace('.', '-')}"[:63].rstrip(
        "-"
    )


def _label(study: str) -> str:
    """The study's name as the value of a label."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", study)[:63].strip("-._") or "study"
