"""Two trials side by side, as text and as JSON.

`diff --json` prints one object; each pair is a list of two, null where a trial has no value:
    study, trials (a list of two objects: trial, name, state, reason, value, steps, seconds,
    attempts, stopped, lost, workers),
    metrics (name -> pair; of a study with two metrics or constraints),
    params (name -> pair), differing (names of parameters that differ),
    curves (name -> {"steps", "values": pairs}, at the steps that both have recorded),
    last (name -> pair of {"step", "value"}), environment (key -> pair, where they differ).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from search import attributes
from search.cli.tables import console, ending
from search.outcome import value_of
from search.study.views.trial_pair import Cost, TrialPair
from search.text import clock, figure, on_one_line

__all__ = ["pair_record", "print_pair"]

MOST_STEPS = 8  # rows of a curve; the first and the last common step are among them


def print_pair(pair: TrialPair) -> None:
    """Print the two trials; what both have alike stands on one line."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for trial in pair.trials:
        name = trial.user_attrs.get(attributes.NAME)
        table.add_column(f"trial {trial.number}{f' ({name})' if name else ''}", justify="right")
    for label, *values in _rows(pair):
        table.add_row(Text(label), *map(Text, values))
    console().print(table)
    alike = [f"{n}={_shown(v[0])}" for n, v in pair.params.items() if not pair.differs(n)]
    if alike:
        print(f"parameters alike: {' '.join(alike)}")
    if not pair.environment:
        print("environment alike, as far as it was recorded")


def _rows(pair: TrialPair) -> Iterator[tuple[str, ...]]:
    one, other = pair.trials
    yield "ended", ending(one), ending(other)
    yield "value", *(", ".join(map(_shown, t.values or [None])) for t in pair.trials)
    for name, found in pair.metrics.items():
        yield name, *map(_shown, found)
    yield "steps", *(str(cost.steps) for cost in pair.cost)
    yield "time", *("" if c.seconds is None else clock(c.seconds) for c in pair.cost)
    yield "attempts", *map(_attempts, pair.cost)
    yield "worker", *(", ".join(cost.workers) for cost in pair.cost)
    for name, values in pair.params.items():
        if pair.differs(name):
            yield name, *map(_shown, values)
    for number, (name, curve) in enumerate(pair.curves.items()):
        # Of the metric the course, of everything else that was recorded the last common step.
        for step in _spread(list(curve)) if number == 0 else list(curve)[-1:]:
            yield f"{name} at step {step}", *map(_shown, curve[step])
        last = pair.last[name]
        if last[0] is not None and last[1] is not None and last[0][0] != last[1][0]:
            yield f"{name} at its last step", *(_shown(each[1]) for each in last if each)
    for key, found in pair.environment.items():
        yield key, *map(_shown, found)


def _attempts(cost: Cost) -> str:
    remarks = [f"{cost.stopped} stopped"] if cost.stopped else []
    remarks += [f"{cost.lost} lost"] if cost.lost else []
    return f"{cost.attempts} ({', '.join(remarks)})" if remarks else str(cost.attempts)


def _spread(steps: Sequence[int]) -> list[int]:
    """At most `MOST_STEPS` of these, evenly, the first and the last among them."""
    last = len(steps) - 1
    count = min(MOST_STEPS, len(steps))
    return [steps[round(n * last / max(1, count - 1))] for n in range(count)]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return figure(value) if isinstance(value, float) else on_one_line(value)


def pair_record(study: str, pair: TrialPair) -> dict[str, Any]:
    """Two trials; see the head of this module."""
    return {
        "study": study,
        "trials": [
            {
                "trial": trial.number,
                "name": trial.user_attrs.get(attributes.NAME),
                "state": trial.state.name.lower(),
                "reason": trial.user_attrs.get(attributes.REASON),
                "value": value_of(trial),
                **asdict(cost),
            }
            for trial, cost in zip(pair.trials, pair.cost, strict=True)
        ],
        "metrics": dict(pair.metrics),
        "params": dict(pair.params),
        "differing": [name for name in pair.params if pair.differs(name)],
        "curves": {
            name: {"steps": list(curve), "values": list(curve.values())}
            for name, curve in pair.curves.items()
        },
        "last": {
            name: [None if each is None else {"step": each[0], "value": each[1]} for each in last]
            for name, last in pair.last.items()
        },
        "environment": dict(pair.environment),
    }
