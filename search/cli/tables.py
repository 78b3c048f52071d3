"""What the command line prints about a study: tables, CSV, verdicts."""

import csv
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.live import Live
from rich.table import Table

from search import attributes
from search.aims import choose
from search.aims.confirmed import CONFIRMED, sentences
from search.attributes import Reason
from search.cli.progress import Redrawn, make_status, plain_console
from search.outcome import is_feasible, value_of
from search.study import Study
from search.study.rows import columns, records, seconds, worked_seconds
from search.study.status import Status
from search.text import clock, counted, figure, on_one_line, show_trial
from search.worker.reproduce import Epoch, Replay, same

__all__ = [
    "EpochPrinter",
    "console",
    "ending",
    "print_best",
    "print_best_line",
    "print_confirmation",
    "print_differences",
    "print_front",
    "print_status",
    "print_studies",
    "print_trials",
    "print_verdict",
    "watch_status",
    "write_csv",
]

ERROR_CHARACTERS = 60  # of an error in the table of trials
WATCH_SECONDS = 2.0
_WORDS = ("study", "state", "ended", "metric", "parameters")  # columns set to the left


def print_status(status: Status) -> None:
    """Print how a study stands and what each worker runs."""
    console().print(make_status(status))


def print_confirmation(study: Study, status: Status) -> None:
    """Print how the confirmation of a study stands; nothing where its file has no [confirm]."""
    confirm, found = study.spec.confirm, study.confirmation
    if confirm is None:
        return
    if found is not None:
        for line in sentences(found):
            print(line)
    elif status.over:
        print(f"Confirmation: not begun; `run {study.name}` goes on with it.")
    else:
        print(
            f"Confirmation: after the search the best {counted(confirm.top, 'trial')} are trained "
            f"again, {confirm.seeds} times each."
        )


def print_studies(statuses: Sequence[Status]) -> None:
    """Print one row per study."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("study", "state", "ended", "elapsed", "best", "trial", "metric"):
        table.add_column(heading, justify="left" if heading in _WORDS else "right", no_wrap=True)
    for status in statuses:
        best = status.best
        table.add_row(
            status.name,
            status.state,
            f"{status.ended}/{status.budget}",
            clock(status.elapsed_seconds),
            _best_or_front(status),
            "" if best is None else str(best.number),
            ", ".join(status.metrics),
        )
    console().print(table)


def _best_or_front(status: Status) -> str:
    if status.front:
        return f"front of {len(status.front)}"
    return "" if status.best is None else _value(value_of(status.best))


def watch_status(study: Study) -> None:
    """Redraw the status until the study ends or the user interrupts."""
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            status = study.status()
            live.update(Redrawn(make_status(status)), refresh=True)
            if status.over or status.halted:
                return
            time.sleep(WATCH_SECONDS)


def print_trials(study: Study) -> None:
    """Print one row per trial."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("trial", "ended", ", ".join(study.spec.metrics), "steps", "time", "parameters"):
        table.add_column(heading, justify="left" if heading in _WORDS else "right")
    worked = worked_seconds(study.ledger.attempts())
    resting = study.resting
    for trial in study.trials:
        spent = seconds(trial, worked)
        table.add_row(
            str(trial.number),
            ending(trial, resting=resting.get(trial.number)),
            _values(trial),
            str(max(trial.intermediate_values, default=0)),
            "" if spent is None else clock(spent),
            show_trial(trial),
        )
    console().print(table)


def ending(trial: FrozenTrial, *, resting: str | None = None) -> str:
    """How a trial ended: its state, or the reason where there is one.

    Args:
        resting: "paused" or "released" where it has not ended, but nobody runs it.
    """
    reason = trial.user_attrs.get(attributes.REASON)
    word = str(reason or resting or trial.state.name.lower())
    if reason == Reason.ERROR.value and attributes.ERROR in trial.user_attrs:
        word = str(trial.user_attrs[attributes.ERROR])[:ERROR_CHARACTERS]
    if attributes.RETRY_OF in trial.user_attrs:
        word += f", resumed {trial.user_attrs[attributes.RETRY_OF]}"
    if attributes.AUDIT in trial.user_attrs:
        word += f", audited from step {trial.user_attrs[attributes.AUDIT]['step']}"
    if attributes.ARM in trial.user_attrs:
        word += f", {trial.user_attrs[attributes.ARM]}"
    if attributes.DUPLICATE_OF in trial.user_attrs:
        word += f", repeats {trial.user_attrs[attributes.DUPLICATE_OF]}"
    return word


def write_csv(study: Study, out: TextIO) -> None:
    """Write one row per trial, with a column for each parameter."""
    trials, worked = study.trials, worked_seconds(study.ledger.attempts())
    writer = csv.DictWriter(out, columns(trials, study.params))
    writer.writeheader()
    writer.writerows(records(trials, study.params, worked, resting=study.resting))


def print_best(study: Study) -> None:
    """Print the best trial: its number, name, value and parameters; with two metrics the front.

    Raises:
        NoResult: no trial is complete, or none keeps the constraints.
    """
    if len(study.spec.aims) > 1:
        print_front(study)
        return
    best = study.best
    named = best.user_attrs.get(attributes.NAME)
    head = f"trial {best.number}" + (f" ({named})" if named else "")
    print(f"{head}: {study.spec.metric} {_value(value_of(best))}")
    for name, value in choose.metrics_of(study.spec, best).items():
        if name != study.spec.metric and value is not None:
            print(f"  {name}: {figure(value)}")
    for name, value in study.params(best).items():
        shown = f"{value:.6g}" if isinstance(value, float) else on_one_line(value)
        print(f"  {name} = {shown}")
    print_confirmation(study, study.status())


def print_front(study: Study) -> None:
    """Print the trials that no other betters in both metrics, the best by the first one first.

    Raises:
        NoResult: there is none.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("trial", *study.spec.metrics, "parameters"):
        table.add_column(heading, justify="left" if heading in _WORDS else "right")
    for trial in study.pareto:
        table.add_row(str(trial.number), *map(figure, trial.values), show_trial(trial))
    console().print(table)


def print_best_line(study: Study) -> None:
    """Print the best trial and its value, or the front: the last lines of `run`.

    Raises:
        NoResult: no trial is complete, or none keeps the constraints.
    """
    if len(study.spec.aims) > 1:
        print()
        print_front(study)
        return
    best = study.best
    print(f"\nbest trial  {best.number}: {show_trial(best, study.params(best))}")
    print(f"{study.spec.metric:<11} {_value(value_of(best))}")
    found = study.confirmation
    for label, line in zip(("confirmed", ""), sentences(found) if found else (), strict=False):
        print(f"{label:<11} {line.removeprefix(CONFIRMED)}")


class EpochPrinter:
    """Prints each step of a reproduction: the stored figures, and new ones that differ."""

    def __call__(self, epoch: Epoch) -> None:
        parts = []
        for name, (stored, new) in epoch.figures.items():
            if same(stored, new):
                parts.append(f"{name} {_figure(stored)} =")
            else:
                parts.append(f"{name} {_figure(stored)} -> {_figure(new)}")
        print(f"  {epoch.step:>3}  {'  '.join(parts)}", flush=True)


def print_verdict(replay: Replay) -> None:
    """Print whether the runs are identical, or where they and their environments differ."""
    stored, new = replay.value
    value = "last value" if value_of(replay.trial) is None else "value"
    if replay.identical:
        steps = counted(len(replay.epochs), "step")
        print(f"identical: {steps} and the {value} {_figure(stored)}")
        return
    first = next((epoch.step for epoch in replay.epochs if not epoch.identical), None)
    where = f"from step {first} on" if first is not None else "in the final value"
    print(f"different {where}: stored {value} {_figure(stored)}, new {_figure(new)}")
    if not replay.environment:
        print("the environment is the same as far as it was recorded")
    print_differences(replay.environment)


def print_differences(environment: Mapping[str, tuple[str, str]]) -> None:
    """Print one line for each value that differs: key -> (then, now)."""
    for key, (was, now) in environment.items():
        print(f"  {key}: {was} then, {now} now")


def _values(trial: FrozenTrial) -> str:
    """The values of a trial; those of one that breaks a constraint stand in brackets."""
    text = ", ".join(map(figure, trial.values or ()))
    return text if is_feasible(trial) or not text else f"({text})"


def _value(value: float | None) -> str:
    return "" if value is None else figure(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.8g}"


def console() -> Console:
    """Where tables are printed; one that is piped or logged keeps its columns."""
    return plain_console(width=None if sys.stdout.isatty() else 200)
