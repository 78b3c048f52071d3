"""What Slurm says of a study's workers: its tasks, by squeue."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.errors import SearchError

__all__ = [
    "GONE", "QUEUED", "WORKER_PREFIX", "Queue", "Task", "Unanswered", "array_of", "ask",
    "exit_code_of", "job_name", "look", "mine", "name_of", "queue",
]  # fmt: skip

CALL_SECONDS = 60.0  # for one call of a Slurm command
_FIELDS = ("ArrayJobID", "ArrayTaskID", "StateCompact", "exit_code", "RestartCnt", "ReasonList")
GONE = {"CD", "CA", "F", "TO", "NF", "PR", "BF", "DL", "OOM", "RV"}  # states of ended tasks
QUEUED = "PD"
#: What Slurm's commands print when the controller is away.
_AWAY = ("Unable to contact slurm controller", "Socket timed out", "Connection refused")
WORKER_PREFIX = "slurm-"  # of the names of workers; the script writes it too


class Unanswered(SearchError):
    """Slurm's controller did not answer; it may be restarting."""


def job_name(uid: str) -> str:
    """The name of a study's jobs, by which a later command finds them."""
    return f"fmnist-hpo-{uid[:12]}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a job array, as squeue shows it."""

    state: str
    status: str  # exit_code as squeue prints it: a wait status, or "code:signal"
    restarts: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The workers of one study on Slurm.

    Attributes:
        jobs: the ids of the job arrays that have tasks left.
        logs: the folder of the workers' logs; None where Slurm does not say.
    """

    running: int
    queued: int
    jobs: Sequence[str]
    logs: Path | None


def queue(uid: str) -> Queue | None:
    """The workers of a study that run or wait on Slurm; None without any.

    Raises:
        SearchError: Slurm's commands are not here, or its controller does not answer.
    """
    tasks = {n: task for n, task in look(job_name(uid)).items() if task.state not in GONE}
    if not tasks:
        return None
    queued = [task.state for task in tasks.values()].count(QUEUED)
    outputs = ask("squeue", "-h", *mine(job_name(uid)), "-O", "STDOUT:4096").splitlines()
    return Queue(
        running=len(tasks) - queued,
        queued=queued,
        jobs=sorted(set(map(array_of, tasks))),
        logs=Path(outputs[0].strip().replace("%%", "%")).parent if outputs else None,
    )


def array_of(task_id: str) -> str:
    """The id of the job array that a task belongs to."""
    return task_id.partition("_")[0]


def name_of(task_id: str, task: Task) -> str:
    """The name of the worker that a task is."""
    return f"{WORKER_PREFIX}{task_id}.{task.restarts}"


def exit_code_of(task: Task) -> int | None:
    """As `subprocess` gives it, negative for a signal; None where Slurm says nothing."""
    code, _, number = task.status.partition(":")
    if not code.isdigit():
        return None
    if number.isdigit():
        return -int(number) if int(number) else int(code)
    status = int(code)
    return -(status & 0x7F) if status & 0x7F else status >> 8


def look(job: str) -> dict[str, Task]:
    """The tasks of a job by "array_task", also those that ended within Slurm's MinJobAge."""
    fields = ",".join(f"{field}:|" for field in _FIELDS)
    out = ask("squeue", "--array", "-h", "-t", "all", *mine(job), "-O", fields)
    tasks = {}
    for line in out.splitlines():
        array, task, state, status, restarts, reason = (x.strip() for x in line.split("|")[:6])
        tasks[f"{array}_{task}"] = Task(
            state=state, status=status, restarts=int(restarts or 0), reason=reason
        )
    return tasks


def mine(job: str) -> tuple[str, ...]:
    """Options of squeue and scancel: this user's jobs of a name."""
    return ("--name", job, "-u", str(os.getuid()))


def ask(*argv: str, stdin: str | None = None) -> str:
    """What a command of Slurm prints.

    Raises:
        Unanswered: the controller is away.
        SearchError: the command is not here, or it was refused.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=CALL_SECONDS,
        )
    except FileNotFoundError as error:
        raise SearchError(
            f"{argv[0]} is not on this machine; run this on a machine that submits to Slurm"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unanswered(f"{argv[0]} did not answer within {CALL_SECONDS:g} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        away = any(words in done.stderr for words in _AWAY)
        raise (Unanswered if away else SearchError)(f"{argv[0]} failed: {lines[-1]}")
    return done.stdout
