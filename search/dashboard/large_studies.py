"""Keeps a study of thousands of trials light, for the page and for the server's memory."""

import json
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.outcome import is_feasible

__all__ = ["CURVES", "MANY_TRIALS", "few_curves", "one_plot_at_a_time", "remember"]

#: The number of learning curves that the page receives: half of the best trials, half of the
#: latest. The page draws a line for each; a browser needs ten seconds for a thousand.
CURVES = 40

#: With this many trials or more, the curves are sent as one figure. The page's own figure makes a
#: line for every trial, also for a trial without a curve, and takes a second for 2,000 trials.
MANY_TRIALS = 1000

_LONG_ATTRIBUTE = 200  # characters; such as all curves of a training
_GREY, _FAINT = "#808080", "rgba(128,128,128,0.3)"  # legible on the page's light and dark ground
_BEST, _LATEST = "#2A8FD6", "#E69F00"  # likewise, and told apart by colour-blind eyes

_plotting = threading.Lock()


def few_curves(storage: BaseStorage) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Bottle plugin: send only the curves of the best and of the latest trials of a large study.

    The answer leaves out the intermediate values and the long attributes of the other trials. The
    storage keeps them. With `MANY_TRIALS` or more, the curves are sent as a user-defined plot of
    optuna-dashboard, in place of its own plot. The page then always shows pruned trials.
    """

    def plugin(callback: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(callback)
        def answer(*args: Any, **kwargs: Any) -> Any:
            body = callback(*args, **kwargs)
            if isinstance(body, dict) and {"trials", "plotly_graph_objects"} <= body.keys():
                trials = storage.get_all_trials(kwargs["study_id"], deepcopy=False)
                upwards = storage.get_study_directions(kwargs["study_id"])[0]
                _lighten(body, trials, upwards=upwards == StudyDirection.MAXIMIZE)
            return body

        return answer

    return plugin


@dataclass(frozen=True)
class _Answered:
    """An answer for one study, and the state of the storage from which it was made."""

    state: list[Any]
    body: str


def remember(storage: BaseStorage) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Bottle plugin: cache the last answer that holds all trials of a study.

    The cached answer is valid while all trials have ended, no trial is new and the study's
    attributes are unchanged. A new answer takes 0.4 s of processor time for 2,000 trials, at the
    moment at which the browser needs the processor too.
    """
    last = _Answered([], "")

    def plugin(callback: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(callback)
        def answer(*args: Any, **kwargs: Any) -> Any:
            from bottle import request, response

            nonlocal last
            study: int = kwargs.get("study_id", 0)
            asked = (request.method, request.path, request.query_string)
            if asked != ("GET", f"/api/studies/{study}", "after=0"):
                return callback(*args, **kwargs)
            try:
                state = _state(storage, study)
            except KeyError:  # no such study: the callback reports it
                return callback(*args, **kwargs)
            known = last  # read once: another thread may replace it between two reads
            if state == known.state:
                response.content_type = "application/json"
                return known.body
            body = callback(*args, **kwargs)
            # optuna-dashboard answers from a cache of trials that may be ten seconds old
            current = [(trial.number, trial.state.name.capitalize()) for trial in state[-1]]
            if (
                all(trial.state.is_finished() for trial in state[-1])
                and isinstance(body, dict)
                and [(trial["number"], trial["state"]) for trial in body["trials"]] == current
            ):
                last = _Answered(state, json.dumps(body))
            return body

        return answer

    return plugin


def one_plot_at_a_time(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Bottle plugin: draw one plot in Python at a time.

    A plot of a large study takes hundreds of megabytes while it is drawn. Threads gain nothing.
    """

    @wraps(callback)
    def answer(*args: Any, **kwargs: Any) -> Any:
        if "plot_type" not in kwargs:
            return callback(*args, **kwargs)
        with _plotting:
            return callback(*args, **kwargs)

    return answer


def _state(storage: BaseStorage, study: int) -> list[Any]:
    """Everything that determines the answer; the trials are the last entry."""
    return [
        study,
        storage.get_study_name_from_id(study),
        storage.get_study_user_attrs(study),
        storage.get_study_system_attrs(study),
        storage.get_all_trials(study, deepcopy=False),
    ]


def _lighten(body: dict[str, Any], trials: list[FrozenTrial], *, upwards: bool) -> None:
    with_curve = [trial for trial in trials if trial.intermediate_values]
    if len(with_curve) <= CURVES:
        return
    half = CURVES // 2
    latest = with_curve[-half:]
    complete = [
        trial
        for trial in with_curve[:-half]
        if trial.state == TrialState.COMPLETE and is_feasible(trial)
    ]
    complete.sort(key=lambda trial: float(trial.values[0]), reverse=upwards)
    best = complete[:half]
    _thin(body["trials"], {trial.number for trial in best + latest})
    if len(trials) >= MANY_TRIALS:
        body["has_intermediate_values"] = False
        figure = json.dumps(_figure(best, latest, len(trials)))
        body["plotly_graph_objects"].append({"id": "learning-curves", "graph_object": figure})


def _thin(answered: list[dict[str, Any]], kept: Collection[int]) -> None:
    for trial in answered:
        if trial["intermediate_values"] and trial["number"] not in kept:
            trial["intermediate_values"] = []
            trial["user_attrs"] = [
                attribute
                for attribute in trial["user_attrs"]
                if len(str(attribute["value"])) <= _LONG_ATTRIBUTE
            ]


def _figure(best: list[FrozenTrial], latest: list[FrozenTrial], trials: int) -> dict[str, Any]:
    axis = {"gridcolor": _FAINT, "zeroline": False, "automargin": True}
    return {
        "data": [_line("latest", latest, _LATEST), _line("best", best, _BEST)],
        "layout": {
            "title": f"Intermediate values of {len(best)} best and {len(latest)} latest trials "
            f"of {trials:,}",
            "xaxis": axis | {"title": "Step"},
            "yaxis": axis | {"title": "Intermediate value"},
            "font": {"color": _GREY},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
        },
    }


def _line(name: str, trials: list[FrozenTrial], colour: str) -> dict[str, Any]:
    """The trials' curves as one line; gaps separate trials and replace infinite and NaN values."""
    steps: list[int | None] = []
    values: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        for step, value in sorted(trial.intermediate_values.items()):
            steps.append(step)
            values.append(value if abs(value) < float("inf") else None)
            texts.append(f"trial #{trial.number}")
        steps.append(None)
        values.append(None)
        texts.append("")
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": steps,
        "y": values,
        "text": texts,
        "line": {"color": colour, "width": 1},
        "marker": {"size": 4},
    }
