"""Workers as tasks of a Slurm job array: sbatch, squeue and scancel; no accounting, no plug-in.

Slurm tells a task in two ways that its time is over, and the batch script tells them apart:

- SIGUSR1, ahead of the time limit: the worker releases its trial, and the task queues up again;
- SIGTERM, at scancel, preemption and requeue: the worker releases its trial, and Slurm decides.

So a study goes on over any number of time limits and preemptions, with no supervisor at all.
"""

import logging
import os
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from search.errors import SearchError
from search.signals import describe_exit
from search.storage.files import open_files
from search.supervisor.launchers import Exit
from search.supervisor.launchers.logs import last_line
from search.supervisor.launchers.slurm_queue import (
    GONE,
    QUEUED,
    WORKER_PREFIX,
    Task,
    Unanswered,
    array_of,
    ask,
    exit_code_of,
    job_name,
    look,
    mine,
    name_of,
)
from search.worker.contract import STOP_SECONDS, Left, read_note

__all__ = ["SlurmLauncher"]

log = logging.getLogger(__name__)

AHEAD_SECONDS = 60  # of the time limit, at which Slurm sends SIGUSR1; it may come 30 s earlier
LOOK_SECONDS = 5.0  # between two calls of squeue: the controller serves the whole cluster
STOP_WAIT_SECONDS = STOP_SECONDS + 30.0  # for scancel to end all tasks, Slurm's KillWait included

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={job}
#SBATCH --array=0-{last}
#SBATCH --output={output}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@{ahead}
{options}
# One worker of the study {study}.
set -a; . {environment}; set +a
task="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
export FMNIST_HPO_WORKER="slurm-$task.${{SLURM_RESTART_COUNT:-0}}"
export FMNIST_HPO_NOTE={logs}/"$FMNIST_HPO_WORKER.note"
again=
trap 'again=1; kill -USR1 $worker 2>/dev/null' USR1   # the time limit is near
trap 'again=; kill -TERM $worker 2>/dev/null' TERM    # scancel, preemption or requeue
{command} & worker=$!
while :; do
    wait $worker; code=$?
    kill -0 $worker 2>/dev/null || break              # `wait` also returns when a trap has run
done
if [ -n "$again" ] && [ $code = {asked} ]; then
    echo "the time limit is near: queueing up again"
    # Not $SLURM_JOB_ID: one task of an array has the array's id there, and all would be requeued.
    scontrol requeue "$task"
    sleep 60                                          # Slurm ends this script
fi
exit $code
"""

_OF_THE_ENGINE = {"CA", "TO", "NF", "PR", "BF", "DL", "RV"}  # ended by Slurm or a person


class SlurmLauncher:
    """The workers of one study on a Slurm cluster. They go on when this process is gone.

    Args:
        study: its name, for the script's reader.
        uid: of the study.
        command: argv of one worker; the same Python must be at that path on every node.
        environment: variables for each worker. They are written to a file that only its owner
            reads, since a storage's URL may hold a password and the script is seen by others.
        logs: a directory on a file system that all nodes share.
        options: further options of sbatch, as in ``--partition=gpu``.
        ahead: seconds before the time limit at which a worker leaves.

    Raises:
        SearchError: Slurm's commands are not here, or its controller does not answer.
    """

    survives = True

    def __init__(
        self,
        *,
        study: str,
        uid: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        logs: Path,
        options: Sequence[str] = (),
        ahead: int = AHEAD_SECONDS,
    ) -> None:
        self.job = job_name(uid)
        self._study = study
        self._command = list(command)
        self._variables = dict(environment)
        self._logs = logs.absolute()
        self._options = list(options)
        self._ahead = ahead
        self._tasks: dict[str, Task] = {}  # as Slurm last showed them
        self._polled = self._tasks  # as the last poll saw them
        self._ended: set[str] = set()  # workers that `end` cancelled
        self._unended: set[str] = set()  # those of which Slurm was not asked yet
        self._given_up = False  # whether Slurm did not answer for so long that `stop` ended
        self._missing = 0  # workers to submit that Slurm did not take
        self._in_doubt = False  # whether it may have taken them, and only its answer was lost
        self._jobs: set[str] = set()  # the arrays that Slurm has shown, or answered to have taken
        self._started = False
        self._looked = float("-inf")
        self._silent = False  # whether the controller did not answer the last time

    @property
    def where(self) -> str:
        """Slurm's version and its partitions."""
        version = ask("sinfo", "--version").split()[-1]
        partitions = ask("sinfo", "-h", "-o", "%P %D nodes").split("\n")
        shown = "; ".join(line.strip() for line in partitions if line.strip())
        return f"Slurm {version}, {shown}"

    def script(self, count: int) -> str:
        """The batch script of `count` workers."""
        return SCRIPT.format(
            job=self.job,
            last=count - 1,
            output=shlex.quote(f"{str(self._logs).replace('%', '%%')}/slurm-%A_%a.log"),
            logs=shlex.quote(str(self._logs)),
            ahead=self._ahead,
            options="\n".join(f"#SBATCH {shlex.quote(option)}" for option in self._options),
            study=self._study,
            environment=shlex.quote(str(self._environment_file)),
            command=shlex.join(self._command),
            asked=int(Left.ASKED),
        )

    def start(self, count: int) -> None:
        """See `Launcher.start`."""
        if self._started:
            self._missing += count
            if not self._silent:  # else a poll submits them once the controller answers again
                self._top_up()
            return
        self._tasks = self._polled = look(self.job)
        self._jobs = {array_of(task_id) for task_id in self._tasks}
        there = sum(task.state not in GONE for task in self._tasks.values())
        self._started = not there  # a start that fails ends no worker of an earlier command
        if there:
            log.info("%d workers of an earlier command are there", there)
        if count > there:
            self._submit(count - there)
        self._started = True

    def _submit(self, count: int) -> None:
        self._write_environment()
        job = ask("sbatch", "--parsable", stdin=self.script(count)).strip()
        self._jobs.add(job.partition(";")[0])
        log.info("submitted job %s with %d tasks; logs in %s", job, count, self._logs)
        self._looked = float("-inf")

    def _top_up(self) -> None:
        """Submit the workers that are missing; the next poll tries again what is not answered."""
        if not self._missing:
            return
        try:
            if self._in_doubt:
                arrays = [array_of(task_id) for task_id in look(self.job)]
                self._missing -= sum(array not in self._jobs for array in arrays)
                self._jobs.update(arrays)
                self._in_doubt = False
            if self._missing > 0:
                self._submit(self._missing)
            self._missing = 0
        except Unanswered as error:
            self._in_doubt = True
            self._wait_for(error)

    def poll(self) -> Sequence[Exit]:
        """See `Launcher.poll`."""
        self._refresh()  # or what another call has seen since the last poll
        if not self._silent:
            self._top_up()
            for name in list(self._unended):
                self.end(name)
        before, self._polled = self._polled, self._tasks
        # A task may have ended before it was seen at all.
        exits = [
            self._exit(task_id, new, new)
            for task_id, new in self._tasks.items()
            if task_id not in before and new.state in GONE
        ]
        for task_id, old in before.items():
            new = self._tasks.get(task_id)
            if old.state in GONE:
                continue
            if new is None or new.state in GONE:
                exits.append(self._exit(task_id, old, new))
            elif new.restarts > old.restarts:
                how = f"and Slurm queued it again ({new.reason})"
                name = name_of(task_id, old)
                exits.append(Exit(name=name, code=None, how=how, blame=False, replaced=True))
        return exits

    def counts(self) -> tuple[int, int]:
        """See `Launcher.counts`."""
        states = [task.state for task in self._tasks.values() if task.state not in GONE]
        queued = states.count(QUEUED)
        return len(states) - queued, queued

    def gone(self, names: Sequence[str]) -> Sequence[str]:
        """See `Launcher.gone`."""
        self._refresh()
        if self._silent:  # nobody knows
            return []
        alive = {
            name_of(task_id, task)
            for task_id, task in self._tasks.items()
            if task.state not in GONE | {QUEUED}
        }
        return [name for name in names if name.startswith(WORKER_PREFIX) and name not in alive]

    def end(self, name: str) -> None:
        """See `Launcher.end`."""
        self._unended.discard(name)
        for task_id, task in self._tasks.items():
            if name_of(task_id, task) == name and task.state not in GONE:
                self._ended.add(name)
                try:
                    ask("scancel", task_id)
                except Unanswered as error:
                    self._unended.add(name)
                    self._wait_for(error)

    def stop(self) -> Sequence[Exit]:
        """See `Launcher.stop`."""
        if not self._started or self._given_up:
            return []
        self._missing = 0
        exits: list[Exit] = []
        deadline = time.monotonic() + STOP_WAIT_SECONDS
        asked = False
        while time.monotonic() < deadline:
            try:
                if not asked:
                    ask("scancel", *mine(self.job))
                    asked = True
            except SearchError as error:
                self._wait_for(error)
            self._looked = float("-inf")
            exits += self.poll()
            if not self._silent and not sum(self.counts()):
                break
            time.sleep(0.5)
        if not asked and (self._silent or any(self.counts())):
            self._given_up = True
            line = f"scancel {' '.join(mine(self.job))}"
            log.error("the workers were not ended, as Slurm does not answer; `%s` ends them", line)
        return exits

    @property
    def _environment_file(self) -> Path:
        return self._logs / "worker.env"

    def _write_environment(self) -> None:
        """Replace the file as a whole: tasks read it as they start."""
        lines = [f"{key}={shlex.quote(value)}\n" for key, value in self._variables.items()]
        text = os.fsencode("".join(lines))
        file = self._environment_file
        try:
            if not file.exists() or file.read_bytes() != text:
                open_files(str(file.parent)).write(file.name, text)
        except OSError as error:
            raise SearchError(
                f"cannot write {file}, from which the workers read their variables: "
                f"{error.strerror}; make room for it, or start the command in another folder"
            ) from error

    def _refresh(self) -> None:
        """Ask Slurm for the tasks, where the last answer is old."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._tasks = look(self.job)
        except SearchError as error:  # the controller restarts: the workers go on
            self._wait_for(error)
            return
        if not self._in_doubt:
            self._jobs.update(map(array_of, self._tasks))
        if self._silent:
            log.warning("Slurm answers again")
        self._silent = False

    def _wait_for(self, error: SearchError) -> None:
        if not self._silent:
            log.warning("%s; waiting for it", error)
        self._silent = True

    def _exit(self, task_id: str, old: Task, new: Task | None) -> Exit:
        name = name_of(task_id, old if new is None else new)
        state = "forgotten" if new is None else new.state
        code = None if new is None else exit_code_of(new)
        note_path = self._logs / f"{name}.note"
        left, line = read_note(note_path) or (None, "")
        with suppress(OSError):
            note_path.unlink(missing_ok=True)
        if left is None and code in (Left.ASKED, Left.STORAGE):
            left = Left(code)
        # The script outlives its worker and exits with a code, so only its node dies of a signal.
        by_node = code is not None and code < 0
        by_engine = new is None or by_node or state in _OF_THE_ENGINE
        if state == "CA" and name in self._ended:
            code, by_engine = code or -signal.SIGTERM, False
        how = f"as {state} on Slurm"
        if code:
            how += f", {describe_exit(code)}"
        log_path = self._logs / f"slurm-{task_id}.log"
        return Exit(
            name=name,
            code=None if by_engine else code,
            how=how,
            tail=f"{last_line(log_path)}; see {log_path}",
            refused=line if left is Left.REFUSED else "",
            over=left is Left.OVER or (left is None and state == "CD"),
            blame=not by_engine and state != "CA" and left not in (Left.ASKED, Left.STORAGE),
        )
