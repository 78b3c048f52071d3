"""A study's note on its page in optuna-dashboard, and the name of its metric."""

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.dashboard.private import stored_note, study_id_of

__all__ = ["annotate"]

#: optuna-dashboard splits a longer note over several attributes, which two workers could mix.
_NOTE_LENGTH = 2045
_ROWS = 20  # parameters shown
_CELL_LENGTH = 40  # characters of a parameter's name or value shown
_MARK = "*Written by the search; a note of your own in its place is kept.*"


def annotate(
    study: optuna.Study,
    *,
    metric: str,
    remarks: Sequence[str] = (),
    params_of: Callable[[FrozenTrial], Mapping[str, Any]] = lambda trial: trial.params,
    paused: Collection[int] = (),
) -> None:
    """Name the study's metric and bring its note up to date; meant to follow each trial's end.

    Writes only what differs from what is stored, and never over a note that a user wrote.

    Args:
        study: with one objective.
        metric: the metric's name, as in the study file.
        remarks: further paragraphs, in Markdown.
        params_of: the parameters of the best trial that are shown, its own and further ones.
        paused: numbers of trials that Optuna shows as running and nobody works on.
    """
    from optuna_dashboard import save_note

    if study.metric_names != [metric]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([metric])
    note, stored = _summary(study, metric, remarks, params_of, paused), stored_note(study)
    if stored != note and (not stored or stored.endswith(_MARK)):
        save_note(study, note)


def _summary(
    study: optuna.Study,
    metric: str,
    remarks: Sequence[str],
    params_of: Callable[[FrozenTrial], Mapping[str, Any]],
    paused: Collection[int],
) -> str:
    words = Counter(
        "paused"
        if trial.number in paused
        else str(trial.user_attrs.get(attributes.REASON, trial.state.name.lower()))
        for trial in study.get_trials(deepcopy=False)
    )
    ordered = dict.fromkeys([*(state.name.lower() for state in TrialState), *sorted(words)])
    states = ", ".join(f"{words[word]} {word}" for word in ordered if words[word])
    page = f"/dashboard/studies/{study_id_of(study)}"
    lines = [f"**Trials:** {states or 'none yet'}"]
    try:
        best = study.best_trial
    except ValueError:
        lines.append("**Best:** no trial to choose yet")
        rows = []
    else:
        lines.append(
            f"**Best {_plain(metric)}:** {best.value:.6g} in "
            f"[trial {best.number}]({page}/trials?numbers={best.number})"
        )
        rows = _rows({**best.params, **params_of(best)})
    lines += remarks
    # optuna-dashboard 0.21 draws nothing on /trialTable; the table is on the last of these
    lines.append(
        f"[Plots]({page}/analytics) · [All trials]({page}/trials) · "
        f"[Table and CSV]({page}/smartSelection)"
    )
    return _assembled(lines, rows)


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
