"""Starts local workers as processes, replaces those that die, and stops them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from search.errors import SearchError
from search.worker.contract import (
    NAME_VARIABLE,
    PARENT_VARIABLE,
    STOP_SECONDS,
    new_worker_name,
)

__all__ = ["Fleet", "default_workers"]

DEATHS = 10  # in a row while the study made no progress: something is wrong with all workers


def default_workers(threads: int, gpus: int) -> int:
    """As many as the cores allow at `threads` each; one per GPU where there are any."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return gpus or max(1, (cores or 1) // threads)


@dataclass
class _Child:
    name: str
    slot: int
    process: "subprocess.Popen[bytes]"
    log: Path


class Fleet:
    """The local workers of one study.

    Args:
        command: argv of one worker; the same that a user types on another machine.
        environment: variables for each worker beside those of this process.
        logs: the directory for one log file per worker.
        gpus: the devices that are dealt out in turn; empty on a machine without.
        on_death: called with the name of a worker that is known to be dead.
    """

    def __init__(
        self,
        command: list[str],
        *,
        environment: Mapping[str, str],
        logs: Path,
        gpus: tuple[str, ...],
        on_death: Callable[[str], object],
        say: Callable[[str], None],
    ) -> None:
        self._command = command
        self._environment = dict(environment)
        self._logs = logs
        self._gpus = gpus
        self._on_death = on_death
        self._say = say
        self._children: list[_Child] = []
        self._deaths = 0
        self._progress: object = None

    def start(self, count: int) -> None:
        """Start `count` workers."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for slot in range(count):
            self._children.append(self._spawn(slot))

    @property
    def alive(self) -> int:
        """How many workers run."""
        return sum(child.process.poll() is None for child in self._children)

    def tend(self, progress: object, unfinished: Callable[[], bool]) -> None:
        """Collect the dead; replace those that left while there was work.

        Args:
            progress: differs from the last one when the study has gone on since.
            unfinished: whether there is work at this moment.

        Raises:
            SearchError: a worker refused with a line of its own (exit code 2), or many died in a
                row while the study made no progress.
        """
        if progress != self._progress:
            self._progress, self._deaths = progress, 0
        for child in list(self._children):
            code = child.process.poll()
            if code is None:
                continue
            self._children.remove(child)
            if code == 0 and not unfinished():
                continue
            self._on_death(child.name)
            if code == 2:
                raise SearchError(_last_line(child.log))
            self._deaths += 1
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            how = how if code else "before the study was done"
            if self._deaths >= DEATHS:
                raise SearchError(
                    f"{DEATHS} workers in a row died without progress, the last {how}: "
                    f"{_last_line(child.log)}; see {child.log}"
                )
            self._say(f"worker {child.name} ended {how}; another takes its place")
            self._children.append(self._spawn(child.slot))

    def stop(self) -> None:
        """Ask every worker to hand back its trial; end those that do not within the limit."""
        for child in self._children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS + 2
        dead = []
        for child in self._children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            if child.process.returncode != 0:
                dead.append(child.name)
        self._children.clear()
        for name in dead:
            self._on_death(name)

    def _spawn(self, slot: int) -> _Child:
        name = new_worker_name()
        environment = {
            **os.environ,
            **self._environment,
            PARENT_VARIABLE: str(os.getpid()),
            NAME_VARIABLE: name,
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        log = self._logs / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches us alone; we then ask the workers in our own words.
                start_new_session=True,
            )
        return _Child(name, slot, process, log)


def worker_command(study: str, checkpoints: str) -> list[str]:
    """The argv that starts one worker of this Python on a study."""
    return [sys.executable, "-m", "search", "worker", study, "--checkpoints", checkpoints]


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it printed nothing"
