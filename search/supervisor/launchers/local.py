"""Workers as processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from search.signals import describe_exit
from search.supervisor.launchers import Exit
from search.supervisor.launchers.logs import last_line
from search.text import describe_error
from search.worker.contract import (
    NAME_VARIABLE,
    NOTE_VARIABLE,
    PARENT_VARIABLE,
    STOP_SECONDS,
    Left,
    new_worker_name,
    read_note,
)

__all__ = ["LocalLauncher", "default_workers", "worker_command"]

GRACE_SECONDS = STOP_SECONDS + 2.0  # after SIGTERM, then SIGKILL
KILL_SECONDS = 0.5  # for a killed process to be gone


def default_workers(threads: int, gpus: int) -> int:
    """As many as the cores allow at `threads` each; one per GPU where there are any."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return gpus or max(1, (cores or 1) // threads)


def worker_command(study: str, checkpoints: str) -> list[str]:
    """The argv that starts one worker of this Python on a study.

    `-P` keeps the current folder off the path, so that a file in it replaces no module of ours.
    """
    return [sys.executable, "-P", "-m", "search", "worker", study, "--checkpoints", checkpoints]


@dataclass
class _Child:
    name: str
    slot: int
    process: "subprocess.Popen[bytes]"
    log: Path
    note: Path
    deadline: float | None = None  # monotonic, after which it is killed


class LocalLauncher:
    """The local workers of one study. They leave when this process is gone.

    Args:
        command: argv of one worker, see `worker_command`.
        environment: variables for each worker beside those of this process.
        logs: the directory for one log file per worker.
        gpus: the devices that are dealt out in turn; empty on a machine without.
    """

    where = "this machine"
    survives = False

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        logs: Path,
        gpus: Sequence[str] = (),
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._logs = logs
        self._gpus = gpus
        self._children: list[_Child] = []
        self._unstarted: list[Exit] = []

    def start(self, count: int) -> None:
        """See `Launcher.start`."""
        for _ in range(count):
            used = {child.slot for child in self._children}
            slot = next(n for n in range(len(used) + 1) if n not in used)
            try:
                self._children.append(self._spawn(slot))
            except OSError as error:  # as when there are too many processes
                how = f"as it could not be started: {describe_error(error)}"
                self._unstarted.append(Exit(name="", code=1, how=how, tail=self._command[0]))

    def poll(self) -> Sequence[Exit]:
        """See `Launcher.poll`."""
        now = time.monotonic()
        exits, self._unstarted = self._unstarted, []
        for child in list(self._children):
            if child.deadline is not None and now > child.deadline:
                child.process.kill()
            if child.process.poll() is not None:
                self._children.remove(child)
                exits.append(_exit(child))
        return exits

    def counts(self) -> tuple[int, int]:
        """See `Launcher.counts`; nobody queues here."""
        return sum(child.process.poll() is None for child in self._children), 0

    def gone(self, names: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """See `Launcher.gone`; workers of an earlier command released their trials."""
        return []

    def end(self, name: str) -> None:
        """See `Launcher.end`."""
        for child in self._children:
            if child.name == name and child.deadline is None:
                _terminate(child)

    def stop(self) -> Sequence[Exit]:
        """See `Launcher.stop`."""
        for child in self._children:
            if child.deadline is None:
                _terminate(child)
        for child in self._children:
            try:
                child.process.wait(max(0.1, (child.deadline or 0.0) - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
                    child.process.wait(KILL_SECONDS)
        exits = [*self._unstarted, *map(_exit, self._children)]
        self._children.clear()
        self._unstarted.clear()
        return exits

    def _spawn(self, slot: int) -> _Child:
        name = new_worker_name()
        log, note = self._logs / f"{name}.log", self._logs / f"{name}.note"
        environment = {
            **os.environ,
            **self._environment,
            PARENT_VARIABLE: str(os.getpid()),
            NAME_VARIABLE: name,
            NOTE_VARIABLE: str(note.absolute()),
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            out = log.open("wb")
        except OSError:  # the disk is full, the folder is gone: a worker needs no log
            out = open(os.devnull, "wb")  # noqa: PTH123, SIM115 - closed below
        with out:
            process = subprocess.Popen(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # Own session: the terminal's SIGINT reaches only the supervisor, which sends
                # SIGTERM to the workers.
                start_new_session=True,
            )
        return _Child(name, slot, process, log, note)


def _terminate(child: _Child) -> None:
    child.deadline = time.monotonic() + GRACE_SECONDS
    child.process.terminate()
    child.process.send_signal(signal.SIGCONT)  # a process that was suspended hears it as well


def _exit(child: _Child) -> Exit:
    note = read_note(child.note)
    with suppress(OSError):
        child.note.unlink(missing_ok=True)
    left, line = note or (None, "")
    code = child.process.returncode
    how = "before the study was done" if code == 0 else describe_exit(code or 0)
    if left is Left.ASKED:
        how = "because it was asked to"
    return Exit(
        name=child.name,
        code=code,
        how=how,
        tail=f"{last_line(child.log)}; see {child.log}",
        refused=line if left is Left.REFUSED else "",
        over=left is Left.OVER,
        blame=left not in (Left.ASKED, Left.STORAGE),
    )
