"""Measures what trials cost, in processes like the workers of a study: as many, at once.

`python -m search.plan.measure` is one of these processes. It reads its request from the standard
input and prints one line of JSON when it is ready and one per point.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from search.errors import SearchError
from search.logs import printed_apart
from search.plan.ask import TooLarge, cost_of
from search.problem import Cost, Probing
from search.signals import describe_exit, terminated
from search.spec import StudySpec, parse_spec
from search.study.load_problem import labels_of, load_problem
from search.supervisor.launchers.local import default_workers
from search.text import counted, printable, shorten
from search.worker.contract import PARENT_VARIABLE

__all__ = ["Probe", "Probes", "probe"]

log = logging.getLogger(__name__)

LINE_CHARACTERS = 500  # of what a failed process printed last
PARENT_SECONDS = 0.5  # between two looks whether the plan is there
TELL_SECONDS = 15.0  # between two lines that say how far the measurement is


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The measurement at one point of the space."""

    params: Mapping[str, Any]
    cost: Cost | None
    failure: str | None  # why there is no cost, such as too little memory


@dataclass(frozen=True, kw_only=True)
class Probes:
    """The measurements at all points."""

    probes: tuple[Probe, ...]
    start_seconds: float  # until a worker is ready
    peak_bytes: int  # of one worker's memory, at most


@dataclass(frozen=True, kw_only=True)
class _Process:
    process: "subprocess.Popen[str]"
    answers: IO[str]
    messages: IO[str]


def probe(
    spec: StudySpec,
    points: Sequence[Mapping[str, Any]],
    *,
    workers: int,
    threads: int,
    gpus: tuple[str, ...],
) -> Probes:
    """Let `workers` processes measure every point at once, as they will share the machine later.

    The medians over the processes are taken. Where there are more processes than processors, each
    step takes as much longer.

    Args:
        points: all parameters of a trial each, `[fixed]` included.
        threads: of each process.
        gpus: dealt out in turn.

    Raises:
        SearchError: the problem refused, or a process ended before it could measure anything.
    """
    request = json.dumps({"spec": spec.text, "points": list(points)})
    with terminated(), ExitStack() as stack:
        processes = []
        for index in range(workers):
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                PARENT_VARIABLE: str(os.getpid()),
            }
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
            processes.append(_start(request, environment, stack))
        answers = [_answers_of(one, spec.problem, len(points)) for one in processes]
    crowd = 1.0 if gpus else max(1.0, workers * threads / default_workers(1, 0))
    return _combined(points, answers, crowd)


def _start(request: str, environment: Mapping[str, str], stack: ExitStack) -> _Process:
    """Start one process; it ends with `stack`, and its files have no name that could stay."""
    asked, answers, messages = (
        stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))  # noqa: SIM115
        for _ in range(3)
    )
    asked.write(request)
    asked.seek(0)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "search.plan.measure"],
        env=environment,
        stdin=asked,
        stdout=answers,
        stderr=messages,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return _Process(process=process, answers=answers, messages=messages)


def _answers_of(one: _Process, problem: str, points: int) -> list[dict[str, Any]]:
    """The lines of a process: "ready" first, then a line per point until it ends or is killed.

    Raises:
        SearchError: the problem refused or failed, or ended the process.
    """
    code = _wait(one, points)
    one.answers.seek(0)
    one.messages.seek(0)
    lines = [json.loads(line) for line in one.answers if line.endswith("\n")]
    if lines and "refused" in lines[-1]:
        refused = SearchError(lines[-1]["refused"])
        for note in lines[-1]["notes"]:
            refused.add_note(note)
        raise refused
    if code == 0 and len(lines) == 1 + points:
        return lines
    printed = one.messages.read()[-4 * LINE_CHARACTERS :].strip().splitlines()
    last = printable(shorten(printed[-1], LINE_CHARACTERS)) if printed else "it printed nothing"
    if code < 0 and lines:  # killed, as for want of memory
        return [*lines, {"failure": f"the process ended {describe_exit(code)}"}]
    when = "was ready" if not lines else "had measured all"
    raise SearchError(
        f"the problem {problem!r} is measured in processes of its own, and one ended "
        f"{describe_exit(code)} before it {when}: {last.removeprefix('error: ')}; correct its "
        "code, or start fewer with --workers if the memory is too small"
    )


def _wait(one: _Process, points: int) -> int:
    """Wait for the end of a process, and tell now and then how far it is; its exit code."""
    while True:
        try:
            return one.process.wait(TELL_SECONDS)
        except subprocess.TimeoutExpired:
            # It writes at the offset of this file, which `pread` leaves as it is.
            lines = os.pread(one.answers.fileno(), 1 << 20, 0).count(b"\n")
            log.info("measured %d of %s", max(0, lines - 1), counted(points, "configuration"))


def _combined(
    points: Sequence[Mapping[str, Any]],
    answers: Sequence[Sequence[Mapping[str, Any]]],
    crowd: float,
) -> Probes:
    probes = []
    for index, params in enumerate(points, start=1):
        lines = [lines[index] for lines in answers if len(lines) > index]
        failures = [line["failure"] for line in lines if "failure" in line]
        costs = [Cost(**line["cost"]) for line in lines if "cost" in line]
        cost = None
        if costs and not failures:
            cost = Cost(
                steps=costs[0].steps,
                step_seconds=crowd * statistics.median(cost.step_seconds for cost in costs),
                start_seconds=crowd * statistics.median(cost.start_seconds for cost in costs),
                share=min(1.0, crowd * statistics.median(cost.share for cost in costs)),
            )
        failure = failures[0] if failures else None if cost else "not reached"
        probes.append(Probe(params=params, cost=cost, failure=failure))
    reached = [line for lines in answers for line in lines]
    return Probes(
        probes=tuple(probes),
        start_seconds=max((line["ready"] for line in reached if "ready" in line), default=0.0),
        peak_bytes=max((line["peak_bytes"] for line in reached if "peak_bytes" in line), default=0),
    )


def _answers(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    spec = parse_spec(request["spec"], where="the study file")
    problem = load_problem(spec)
    assert isinstance(problem, Probing)
    labels_of(problem, spec.problem, "fingerprint")  # opens the data, as a worker does first
    yield {"ready": time.process_time()}  # other work does not count here either
    for params in request["points"]:
        try:
            cost = cost_of(problem, spec.problem, params)
        except TooLarge as error:
            yield {"failure": str(error)}
        else:
            yield {"cost": vars(cost), "peak_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    import resource  # of Unix: the command can be imported, and refused, without it

    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB


def _leave_with_parent() -> None:
    """End this process when the plan that started it is gone, whatever ended it."""
    parent = int(os.environ[PARENT_VARIABLE])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _main() -> int:
    _leave_with_parent()
    request = json.load(sys.stdin)
    with printed_apart() as answers:  # what the problem prints is no answer
        tell = partial(print, file=answers, flush=True)
        try:
            for answer in _answers(request):
                tell(json.dumps(answer))
        except SearchError as error:
            notes = list(getattr(error, "__notes__", ()))
            tell(json.dumps({"refused": str(error), "notes": notes}))
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
