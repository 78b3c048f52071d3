"""Measures what trials cost, in processes like the workers of a study: as many, at once.

`python -m search.plan.measure REQUEST` is one of them; it prints a line of JSON per point.
"""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from search.errors import SearchError
from search.problem import Cost, Probing
from search.spec import StudySpec, parse_spec
from search.study import load_problem
from search.supervisor.launchers.local import default_workers

__all__ = ["Probe", "Probes", "probe"]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What came out at one point of the space."""

    params: Mapping[str, Any]
    cost: Cost | None
    failure: str | None  # why there is no cost: it does not fit into the memory


@dataclass(frozen=True, kw_only=True)
class Probes:
    """What came out at all of them."""

    probes: tuple[Probe, ...]
    start_seconds: float  # until a worker is ready
    peak_bytes: int  # of one worker's memory, at most


def probe(
    spec: StudySpec,
    points: Sequence[Mapping[str, Any]],
    *,
    workers: int,
    threads: int,
    gpus: tuple[str, ...],
) -> Probes:
    """Let `workers` processes measure every point at once, as they will share the machine later.

    The medians over the processes are taken. Where there are more of them than processors, each
    step takes as much longer.

    Args:
        points: all parameters of a trial each, `[fixed]` included.
        threads: of each process.
        gpus: dealt out in turn.

    Raises:
        SearchError: the problem refused.
    """
    with tempfile.TemporaryDirectory(prefix="plan-") as name, ExitStack() as stack:
        folder = Path(name)
        request = folder / "request.json"
        request.write_text(json.dumps({"spec": spec.text, "points": list(points)}))
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        processes = []
        for index in range(workers):
            if gpus:
                environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
            out: IO[str] = stack.enter_context((folder / f"{index}.out").open("w+"))
            complaints: IO[str] = stack.enter_context((folder / f"{index}.err").open("w+"))
            process = subprocess.Popen(
                [sys.executable, "-m", "search.plan.measure", str(request)],
                env=environment,
                stdout=out,
                stderr=complaints,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append((process, out, complaints))
        answers: list[list[dict[str, Any]]] = []
        for process, out, complaints in processes:
            code = process.wait()
            out.seek(0)
            complaints.seek(0)
            lines = [json.loads(line) for line in out if line.startswith('{"')]
            if code > 0:
                said = complaints.read().strip().splitlines() or ["it printed nothing"]
                raise SearchError(said[-1].removeprefix("error: "))
            if code < 0:
                lines.append({"failure": f"the process ended by {signal.Signals(-code).name}"})
            answers.append(lines)
    crowd = 1.0 if gpus else max(1.0, workers * threads / default_workers(1, 0))
    return _combined(points, answers, crowd)


def _combined(
    points: Sequence[Mapping[str, Any]],
    answers: Sequence[Sequence[Mapping[str, Any]]],
    crowd: float,
) -> Probes:
    """Each process answers "ready", then point by point until it ends or is killed."""
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
    problem = load_problem(parse_spec(request["spec"], where="the study file"))
    assert isinstance(problem, Probing)
    problem.fingerprint()  # opens the data, as a worker does first
    yield {"ready": time.process_time()}  # other work does not count here either
    for params in request["points"]:
        try:
            cost = problem.probe(params)
        except MemoryError as error:
            yield {"failure": str(error).partition("\n")[0] or "out of memory"}
        else:
            yield {"cost": vars(cost), "peak_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _main() -> int:
    try:
        for answer in _answers(json.loads(Path(sys.argv[1]).read_text())):
            print(json.dumps(answer), flush=True)
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
