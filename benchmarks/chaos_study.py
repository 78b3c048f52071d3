"""The study that `chaos.py` runs: its file, its processes, and the judgement on how it came out."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

PROBLEMS = Path(__file__).parents[1] / "tests" / "problems"
sys.path.insert(0, str(PROBLEMS))

STEPS = 6  # of each trial


def write_study(directory: Path, lineages: int, *, pauses: bool = False) -> None:
    from toy import toy_spec

    budget, sampler, problem = "", "", "toy:Toy"
    if pauses:
        budget = f"steps = {lineages * STEPS // 2}"
        sampler, problem = '[sampler]\nname = "freeze-thaw"\n', "toy:Pausing"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "chaos.toml").write_text(
        toy_spec(
            problem,
            name="chaos",
            trials=lineages,
            budget=budget,
            extra=f"{sampler}[fixed]\nsteps = {STEPS}\npause = 0.3\n"
            "[workers]\nheartbeat_seconds = 0.5\nmax_retries = 100000\n",
        )
    )


def environment(storage: str) -> dict[str, str]:
    return {
        **os.environ,
        "FMNIST_HPO_STORAGE": storage,
        "PYTHONPATH": os.pathsep.join([str(PROBLEMS), os.environ.get("PYTHONPATH", "")]),
    }


def start(directory: Path, storage: str, workers: int) -> "subprocess.Popen[bytes]":
    with (directory / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "search", "run", "chaos.toml", "--workers", str(workers)],
            cwd=directory,
            env=environment(storage),
            stdout=log,
            stderr=log,
        )


def victims(supervisor: int, storage: str) -> list[int]:
    """The workers that have a trial in hand: to kill one that is just starting is no art."""
    holding = holders(storage)
    return [pid for pid in children(supervisor) if _worker_name(pid) in holding]


def holders(storage: str) -> set[str]:
    """The names of the workers that have a trial in hand."""
    import search

    try:
        study = search.open("chaos", storage=storage)
    except search.SearchError:  # not created yet, or the database is away
        return set()
    found = {row.worker for row in study.ledger.rows() if row.worker is not None}
    study.storage.close()
    return found


def _worker_name(pid: int) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return None
    return dict(entry.split("=", 1) for entry in environment if "=" in entry).get(
        "FMNIST_HPO_WORKER"
    )


def children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]


def kill(pid: int, number: signal.Signals) -> int:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return 0
    return 1


def extend(storage: str, more: int) -> None:
    """Add lineages to the study that runs, the last one of them by hand."""
    import search

    study = search.open("chaos", storage=storage)
    if more > 1:
        study.extend(trials=more - 1)
    study.add({"x": 0.5})
    study.storage.close()


def judge(
    storage: str, lineages: int, *, more: int = 0, pauses: bool = False
) -> tuple[int, int, list[str]]:
    """Attempts made, attempts lost, and every promise that was not kept.

    Args:
        lineages: of the study file.
        more: that amendments added.
    """
    from optuna.trial import TrialState
    from toy import whole_curve

    import search

    study = search.open("chaos", storage=storage)
    trials = study.trials
    broken: list[str] = []
    counts = study.ledger.counts()
    for trial in trials:
        if trial.user_attrs["lineage"] >= lineages and "amendment" not in trial.user_attrs:
            broken.append(f"trial {trial.number} was added, and bears no amendment")
    lineages += more
    if counts.total != lineages:
        broken.append(f"the budget is {counts.total} lineages, {lineages} were asked for")
    if pauses:
        steps, most = study.ledger.steps(), study.spec.steps or 0
        if steps < most and counts.done < lineages:
            broken.append(f"it ended after {steps} of {most} steps")
        lineages = counts.begun
    states = (TrialState.COMPLETE, TrialState.PRUNED) if pauses else (TrialState.COMPLETE,)
    ended = [trial for trial in trials if trial.state in states]
    per_lineage = Counter(trial.user_attrs["lineage"] for trial in ended)
    if per_lineage != Counter(range(lineages)):
        broken.append(f"lineages ended {dict(per_lineage)}, each of {lineages} must end once")
    if (counts.done, counts.running, counts.paused) != (lineages, 0, 0):
        broken.append(f"the ledger says {counts}, {lineages} must be done")
    for trial in trials:
        if not trial.state.is_finished():
            broken.append(f"trial {trial.number} is {trial.state.name}")
        if trial.user_attrs.get("reason") == "error":
            broken.append(f"trial {trial.number} ended by {trial.user_attrs.get('error')}")
    successors = Counter(trial.user_attrs.get("retry_of") for trial in trials)
    lost = {trial.number for trial in trials if trial.user_attrs.get("reason") == "lost"}
    for trial in trials:
        if successors[trial.number] != (trial.number in lost):
            broken.append(f"trial {trial.number} has {successors[trial.number]} successors")
    attempts = study.ledger.attempts()
    for trial in trials:
        hows = [attempt.how for attempt in attempts if attempt.trial == trial.number]
        last = {"lost": "lost", "out-of-budget": "paused"}.get(
            str(trial.user_attrs.get("reason")), "complete"
        )
        between = {"stopped", "paused"} if pauses else {"stopped"}
        if not hows or hows[-1] != last or not set(hows[:-1]) <= between:
            broken.append(f"the attempts at trial {trial.number} ended {hows}")
    for trial in ended:
        seed = study.spec.trial_seed(trial.user_attrs["lineage"])
        curve = list(trial.intermediate_values.values())
        whole = whole_curve(seed, trial.params["x"], STEPS)
        complete = trial.state is TrialState.COMPLETE
        if curve != (whole if complete else whole[: len(curve)]) or trial.value != curve[-1]:
            broken.append(f"the curve of trial {trial.number} is not an uninterrupted one")
    study.storage.close()
    return len(attempts), sum(a.how in ("lost", "stopped") for a in attempts), broken


def wait_until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        time.sleep(0.2)
