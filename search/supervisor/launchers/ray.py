"""Workers as Ray actors: an actor holds the CPUs and GPUs and runs one worker as its child.

A child process and not a function in the actor: a worker owns its main thread and its signals, may
end its process, and reads OMP_NUM_THREADS before it imports torch.
"""

import collections
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

# Ray's hook for `uv run` ships the folder without its environment, and no worker would start.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import ActorDiedError, RayError

from search.errors import SearchError
from search.signals import describe_exit
from search.supervisor.launchers import Exit
from search.text import printable
from search.worker.contract import NAME_VARIABLE, PARENT_VARIABLE, STOP_SECONDS, Left

__all__ = ["RayLauncher"]

NAMESPACE = "fmnist-hpo"
GRACE_SECONDS = STOP_SECONDS + 2.0  # after SIGTERM, then SIGKILL
STOP_WAIT_SECONDS = GRACE_SECONDS + 3.0  # for all actors
RAYLET_SECONDS = 1.0  # between two looks whether the raylet is there
LINES_KEPT = 20  # of a worker's output, for the line on its end


class _Slot:
    """Runs one worker to its end. Two threads: `run` blocks, `stop` comes in beside it.

    Raises:
        RuntimeError: this node has another version of the package than the driver.
    """

    def __init__(self, name: str, environment: Mapping[str, str], version: str) -> None:
        here = metadata.version("fmnist-hpo")
        if here != version:
            raise RuntimeError(f"need fmnist-hpo {version} on every node, got {here}")
        self._environment = {**os.environ, **environment, NAME_VARIABLE: name}
        self._process: subprocess.Popen[str] | None = None

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        """Run the worker; its exit code and its last line."""
        # The actor's death asks the worker to leave, and so does the raylet's: its actors may live
        # on, where Ray neither counts nor ends them.
        raylet = os.getppid()
        environment = {**self._environment, PARENT_VARIABLE: str(os.getpid())}
        self._process = subprocess.Popen(
            [sys.executable, *argv],
            env=environment,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._stop_without, args=(raylet,), daemon=True).start()
        tail: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            tail.append(line.rstrip())
            print(line, end="", flush=True)  # the log of the actor, which Ray keeps
        return self._process.wait(), next((line for line in reversed(tail) if line), "")

    def _stop_without(self, raylet: int) -> None:
        assert self._process is not None
        while self._process.poll() is None:
            if os.getppid() != raylet:
                self.stop()
            time.sleep(RAYLET_SECONDS)

    def stop(self) -> int | None:
        """Ask the worker to leave, then end it; its exit code, None when it never ran."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()


class RayLauncher:
    """The workers of one study on a Ray cluster. They end with the process that started them.

    Args:
        argv: of one worker, without the Python: each node has its own.
        environment: variables for each worker. They travel as an actor's argument: whoever
            reaches Ray's dashboard can read a runtime environment, and a URL may hold a password.
        address: of the cluster; "auto" finds the one that this machine belongs to.
        cpus, gpus: of one worker, as Ray counts them; a half GPU means two workers on one.

    Raises:
        SearchError: no cluster answers.
    """

    survives = False

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        address: str = "auto",
        cpus: float = 1,
        gpus: float = 0,
    ) -> None:
        try:
            # No runtime environment of ours: Ray refuses one that repeats a key of the job's.
            ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            raise SearchError(
                f"no Ray cluster answers at {address!r}: {printable(str(error).splitlines()[0])}; "
                "run this command on the cluster, as in `ray job submit -- fmnist-hpo run ...`"
            ) from error
        self._argv = list(argv)
        self._environment = dict(environment)
        self._version = metadata.version("fmnist-hpo")
        self._options: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            # Ray restarts nothing: one policy, the supervisor's, counts deaths and replaces.
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 2,
            "scheduling_strategy": "SPREAD",
        }
        self._slots: dict[Any, tuple[str, Any]] = {}  # reference of `run` -> (name, actor)
        self._unplaced: dict[Any, str] = {}  # reference of an actor that begins -> name

    @property
    def where(self) -> str:
        """Ray's version and the cluster's size."""
        total = ray.cluster_resources()
        return (
            f"Ray {ray.__version__}, {len(ray.nodes())} nodes, {total.get('CPU', 0):g} CPUs, "
            f"{total.get('GPU', 0):g} GPUs"
        )

    def start(self, count: int) -> None:
        """See `Launcher.start`; no worker of an earlier command is there."""
        for _ in range(count):
            name = f"ray-{uuid.uuid4().hex[:8]}"
            slot = ray.remote(_Slot).options(name=name, **self._options)
            actor = slot.remote(name, self._environment, self._version)
            self._unplaced[actor.__ray_ready__.remote()] = name
            self._slots[actor.run.remote(self._argv)] = (name, actor)

    def poll(self) -> Sequence[Exit]:
        """See `Launcher.poll`."""
        if not self._slots:
            return []
        done, _ = ray.wait(list(self._slots), num_returns=len(self._slots), timeout=0)
        exits = []
        for reference in done:
            name, actor = self._slots.pop(reference)
            exits.append(_exit(name, reference))
            ray.kill(actor)
        return exits

    def counts(self) -> tuple[int, int]:
        """See `Launcher.counts`; an actor whose worker has no node yet is queued."""
        queued = len(self._queued())
        return len(self._slots) - queued, queued

    def gone(self, names: Sequence[str]) -> Sequence[str]:
        """See `Launcher.gone`: Ray ends all actors of a driver with it; another's may live."""
        alive = set(ray.util.list_named_actors())
        return [name for name in names if name.startswith("ray-") and name not in alive]

    def end(self, name: str) -> None:
        """See `Launcher.end`."""
        for known, actor in self._slots.values():
            if known == name:
                actor.stop.remote()

    def stop(self) -> Sequence[Exit]:
        """See `Launcher.stop`."""
        queued = self._queued()
        slots = list(self._slots.values())
        self._slots.clear()
        asked = [(name, slot, slot.stop.remote()) for name, slot in slots if name not in queued]
        if asked:
            left = [reference for *_, reference in asked]
            ray.wait(left, num_returns=len(left), timeout=STOP_WAIT_SECONDS)
        exits = []
        for name, _, reference in asked:
            code, certain = None, True
            try:
                code = ray.get(reference, timeout=0.1)
            except (RayError, TimeoutError) as error:
                certain = isinstance(error, ActorDiedError)
            how = "when it was stopped"
            exits.append(Exit(name=name, code=code, how=how, blame=False, certain=certain))
        for _, slot in slots:
            ray.kill(slot)
        self._unplaced.clear()
        return exits

    def _queued(self) -> set[str]:
        """The workers that wait for a node."""
        if self._unplaced:
            references = list(self._unplaced)
            placed, _ = ray.wait(references, num_returns=len(references), timeout=0)
            for reference in placed:
                del self._unplaced[reference]
        return set(self._unplaced.values())


def _exit(name: str, reference: Any) -> Exit:
    try:
        code, tail = ray.get(reference)
    except RayError as error:
        # An actor that is unavailable may live; its lease then runs out.
        line = printable((str(error).splitlines() or [""])[0])
        certain = isinstance(error, ActorDiedError)
        how = f"with its actor ({type(error).__name__})"
        return Exit(name=name, code=None, how=how, tail=line, certain=certain, blame=False)
    return Exit(
        name=name,
        code=code,
        how="because it was asked to" if code == Left.ASKED else describe_exit(code),
        tail=printable(tail),
        refused=tail.removeprefix("error: ") if code == Left.REFUSED and "error: " in tail else "",
        over=code == Left.OVER,
        blame=code not in (Left.ASKED, Left.STORAGE),
    )
