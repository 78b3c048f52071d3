"""A study's note on its page in optuna-dashboard, and the name of its metric."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.dashboard.private import stored_note, study_id_of
from search.outcome import best_of, front_of
from search.text import ending

__all__ = ["annotate"]

#: optuna-dashboard splits a longer note over several attributes, which two workers could mix.
_NOTE_LENGTH = 2045
_FRONT = 8  # trials of a front shown
_ROWS = 20  # parameters shown
_CELL_LENGTH = 40  # characters of a parameter's name or value shown
_MARK = "*Written by the search; a note of your own in its place is kept.*"


def annotate(
    study: optuna.Study,
    *,
    metrics: Sequence[str],
    remarks: Sequence[str] = (),
    params_of: Callable[[FrozenTrial], Mapping[str, Any]] = lambda trial: trial.params,
    resting: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Name the study's metrics and bring its note up to date; meant to follow each trial's end.

    Writes only what differs from what is stored, and never over a note that a user wrote.

    Args:
        study: with one or two objectives.
        metrics: their names, as in the study file.
        remarks: further paragraphs, in Markdown.
        params_of: the parameters of the best trial that are shown, its own and further ones.
        resting: the states of trials that Optuna shows as running and nobody works on, by number.
    """
    from optuna_dashboard import save_note

    if study.metric_names != list(metrics):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(metrics))
    note, stored = _summary(study, metrics, remarks, params_of, resting), stored_note(study)
    if stored != note and (not stored or stored.endswith(_MARK)):
        save_note(study, note)


def _summary(
    study: optuna.Study,
    metrics: Sequence[str],
    remarks: Sequence[str],
    params_of: Callable[[FrozenTrial], Mapping[str, Any]],
    resting: Mapping[int, str],
) -> str:
    words = Counter(
        resting.get(trial.number) or ending(trial) for trial in study.get_trials(deepcopy=False)
    )
    ordered = dict.fromkeys([*(state.name.lower() for state in TrialState), *sorted(words)])
    states = ", ".join(f"{words[word]} {word}" for word in ordered if words[word])
    page = f"/dashboard/studies/{study_id_of(study)}"
    lines = [f"**Trials:** {states or 'none yet'}"]
    best = _best(study)
    rows = _rows({**best[0].params, **params_of(best[0])}) if len(best) == 1 else []
    lines.append(_best_line(best, metrics, page))
    lines += remarks
    # optuna-dashboard 0.21 draws nothing on /trialTable; the table is on the last of these
    lines.append(
        f"[Plots]({page}/analytics) · [All trials]({page}/trials) · "
        f"[Table and CSV]({page}/smartSelection)"
    )
    return _assembled(lines, rows)


def _best(study: optuna.Study) -> list[FrozenTrial]:
    """The best feasible trial; with two metrics the front, the best by the first metric first."""
    trials = study.get_trials(deepcopy=False)
    directions = [direction.name.lower() for direction in study.directions]
    if len(directions) > 1:
        return front_of(trials, directions)
    best = best_of(trials, *directions)
    return [] if best is None else [best]


def _best_line(best: Sequence[FrozenTrial], metrics: Sequence[str], page: str) -> str:
    if not best:
        return "**Best:** no trial to choose yet"
    links = [
        f"{', '.join(f'{value:.6g}' for value in trial.values)} in "
        f"[trial {trial.number}]({page}/trials?numbers={trial.number})"
        for trial in best[:_FRONT]
    ]
    names = ", ".join(map(_plain, metrics))
    if len(metrics) == 1:
        return f"**Best {names}:** {links[0]}"
    more = f"; and {len(best) - _FRONT} more" if len(best) > _FRONT else ""
    return f"**Front of {len(best)} ({names}):** {'; '.join(links)}{more}"


def _assembled(lines: list[str], rows: list[str]) -> str:
    """The note, with as many rows of parameters as fit."""
    head = ["| parameter | value |\n|---|---|"] if rows else []
    while True:
        table = ["\n".join(head + rows)] if rows else []
        note = "\n\n".join([*lines, *table, _MARK])
        if len(note) <= _NOTE_LENGTH or not rows:
            return note
        rows = rows[:-1]


def _rows(params: Mapping[str, Any]) -> list[str]:
    return [
        f"| {_plain(name)} | {_plain(f'{value:.6g}' if isinstance(value, float) else str(value))} |"
        for name, value in list(params.items())[:_ROWS]
    ]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: cut, on one line, as code without delimiters in it."""
    cut = text if len(text) <= _CELL_LENGTH else text[: _CELL_LENGTH - 1] + "…"
    return "`" + "".join("'" if c == "`" else " " if c in "|\r\n" else c for c in cut) + "`"
