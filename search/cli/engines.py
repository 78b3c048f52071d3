"""Where `run` starts its workers: on this machine, on Slurm, or on Ray."""

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from search.errors import SearchError
from search.study import Study
from search.study.status import Status
from search.supervisor.launchers import Launcher
from search.supervisor.launchers.local import LocalLauncher, worker_command
from search.supervisor.launchers.logs import log_folder
from search.text import install_extra
from search.worker.contract import STORAGE_VARIABLE, SUPERVISED_VARIABLE

__all__ = [
    "LOCAL",
    "add_engine",
    "check_engine",
    "engine_line",
    "engine_record",
    "make_launcher",
]

LOCAL, SLURM, RAY = "local", "slurm", "ray"


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose and configure an engine."""
    group = parser.add_argument_group("workers on a cluster")
    group.add_argument(
        "--on",
        default=LOCAL,
        metavar="ENGINE",
        help="local, slurm or ray (default: local); what stands behind `--` goes to sbatch",
    )
    group.add_argument(
        "--gpus-per-worker",
        type=_share,
        metavar="G",
        help="GPUs that the engine gives a worker; on ray also a part of one, such as 0.5",
    )
    group.add_argument(
        "--detach", action="store_true", help="on slurm: submit the workers, and leave"
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="on slurm: create the study, and print what would be submitted",
    )


def check_engine(args: argparse.Namespace) -> None:
    """Refuse what does not fit together, before a study is touched.

    Raises:
        SearchError: an unknown engine, a storage or a place of checkpoints that its nodes cannot
            reach, or an option of another engine.
    """
    if args.on.startswith("ray://"):
        raise SearchError(
            f"need --on ray, got --on {args.on}: Ray's client cannot carry workers; run this "
            "command on the cluster, as in `ray job submit -- fmnist-hpo run ... --on ray`"
        )
    if args.on not in (LOCAL, SLURM, RAY):
        raise SearchError(f"need --on local, slurm or ray, got {args.on!r}")
    if args.on != SLURM:
        for option in ("detach", "dry_run", "passed_on"):
            if getattr(args, option):
                name = "what stands behind --" if option == "passed_on" else _flag(option)
                raise SearchError(f"{name} is for --on slurm, got --on {args.on}; leave it out")
    if args.on == LOCAL:
        if args.gpus_per_worker is not None:
            raise SearchError(
                "--gpus-per-worker is for --on slurm and --on ray, got --on local, where each GPU "
                "gets a worker; leave it out"
            )
        return
    if args.workers is None:
        raise SearchError(f"--on {args.on} needs the number of workers; name it with --workers N")
    if not args.storage.startswith("postgresql"):
        kind = "embedded" if args.storage == "embedded" else args.storage.partition(":")[0]
        raise SearchError(
            f"--on {args.on} needs a storage that every node reaches, got {kind}; name a "
            "postgresql:// URL with --storage"
        )
    if args.on == RAY:
        if args.checkpoints is None or not (
            "://" in args.checkpoints or Path(args.checkpoints).is_absolute()
        ):
            raise SearchError(
                "--on ray needs a place of checkpoints that every node reaches, got "
                f"{args.checkpoints or 'none'}; name s3://bucket/prefix or a shared directory by "
                "its absolute path with --checkpoints"
            )
        if importlib.util.find_spec("ray") is None:
            raise SearchError(
                "--on ray needs the package ray, which is not installed; " + install_extra("ray")
            )
        return
    if not args.dry_run and shutil.which("sbatch") is None:
        raise SearchError(
            "--on slurm needs Slurm's commands, and sbatch is not on this machine; run this on a "
            "machine that submits to Slurm"
        )
    if args.gpus_per_worker is not None and args.gpus_per_worker != int(args.gpus_per_worker):
        raise SearchError(
            f"Slurm deals out whole GPUs, got --gpus-per-worker {args.gpus_per_worker:g}; name a "
            "whole number"
        )


def make_launcher(args: argparse.Namespace, study: Study, gpus: tuple[str, ...]) -> Launcher:
    """The launcher of a study's workers on the engine that was chosen.

    Args:
        gpus: indices of this machine's GPUs, for workers that run here.

    Raises:
        SearchError: the engine is not there.
    """
    command = worker_command(study.name, study.checkpoints.address)
    environment = {STORAGE_VARIABLE: study.storage.address, "OMP_NUM_THREADS": str(args.threads)}
    logs = log_folder(study.name)
    if args.on == LOCAL:
        return LocalLauncher(command, environment=environment, logs=logs, gpus=gpus)
    # Variables that a problem and its data hang on; an engine's nodes need not inherit them.
    for name in ("PYTHONPATH", "FMNIST_HPO_DATA"):
        if name in os.environ:
            environment[name] = os.environ[name]
    if args.on == SLURM:
        from search.supervisor.launchers.slurm import SlurmLauncher

        if not (args.detach or args.dry_run):
            environment[SUPERVISED_VARIABLE] = "1"
        options = [f"--cpus-per-task={args.threads}", *args.passed_on]
        if args.gpus_per_worker is not None:
            options.insert(0, f"--gres=gpu:{int(args.gpus_per_worker)}")
        return SlurmLauncher(
            study=study.name,
            uid=study.uid,
            command=command,
            environment=environment,
            logs=logs,
            options=options,
        )
    from search.supervisor.launchers.ray import RayLauncher

    assert command[0] == sys.executable
    return RayLauncher(
        command[1:],
        environment=environment,
        address=os.environ.get("RAY_ADDRESS", "auto"),
        cpus=args.threads,
        gpus=args.gpus_per_worker or 0,
    )


def engine_record(study: Study, status: Status) -> dict[str, Any] | None:
    """What Slurm says of a study's workers; None where there are none, or no Slurm.

    Returns:
        name ("slurm"), running, queued, jobs (ids), logs (a folder; None if unknown) and error
        (None, or why Slurm does not answer, although it runs workers of the study).
    """
    if shutil.which("squeue") is None:
        return None
    from search.supervisor.launchers.slurm_queue import WORKER_PREFIX, queue

    record: dict[str, Any] = {
        "name": SLURM, "running": None, "queued": None, "jobs": [], "logs": None, "error": None
    }  # fmt: skip
    try:
        found = queue(study.uid)
    except SearchError as error:
        known = any(busy.worker.startswith(WORKER_PREFIX) for busy in status.running)
        return record | {"error": str(error)} if known else None
    if found is None:
        return None
    return record | {
        "running": found.running,
        "queued": found.queued,
        "jobs": list(found.jobs),
        "logs": None if found.logs is None else str(found.logs),
    }


def engine_line(study: Study, status: Status) -> str | None:
    """`engine_record` as a line of `status`."""
    record = engine_record(study, status)
    if record is None:
        return None
    if record["error"] is not None:
        return f"on Slurm    unknown: {record['error']}"
    jobs = f"{'job' if len(record['jobs']) == 1 else 'jobs'} {', '.join(record['jobs'])}"
    logs = f"; logs in {record['logs']}" if record["logs"] else ""
    return f"on Slurm    {record['running']} running, {record['queued']} queued ({jobs}){logs}"


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1000:
        raise argparse.ArgumentTypeError(
            f"must be a number above 0, such as 0.5 or 1, got {text!r}"
        )
    return number
