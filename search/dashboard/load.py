"""Keeps a study of thousands of trials light, for the page and for the server's memory."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["CURVES", "one_plot_at_a_time", "thin_curves"]

#: Learning curves sent to the page. It draws each as a line of its own on its first page, and a
#: thousand of them take a browser ten seconds, a hundred 0.2 s more than forty.
CURVES = 40

_LONG_ATTRIBUTE = 200  # characters; such as all curves of a training

_plotting = threading.Lock()


def thin_curves(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Bottle plugin: of a large study send the curves of the best and of the latest trials only.

    Half of `CURVES` each. The other trials keep everything but their intermediate values and their
    long attributes; the storage, and with it every other tool, has those still.
    """

    @wraps(callback)
    def answer(*args: Any, **kwargs: Any) -> Any:
        body = callback(*args, **kwargs)
        if isinstance(body, dict) and {"trials", "directions"} <= body.keys():
            _thin(body["trials"], upwards=body["directions"][0] == "maximize")
        return body

    return answer


def one_plot_at_a_time(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Bottle plugin: plots drawn in Python wait for one another.

    Those of a large study take hundreds of megabytes while they are made, and threads gain nothing.
    """

    @wraps(callback)
    def answer(*args: Any, **kwargs: Any) -> Any:
        if "plot_type" not in kwargs:
            return callback(*args, **kwargs)
        with _plotting:
            return callback(*args, **kwargs)

    return answer


def _thin(trials: list[dict[str, Any]], *, upwards: bool) -> None:
    drawn = [trial for trial in trials if trial["intermediate_values"]]
    if len(drawn) <= CURVES:
        return
    half = CURVES // 2
    finished = [trial for trial in drawn[:-half] if trial["state"] == "Complete"]
    finished.sort(key=lambda trial: float(trial["values"][0]), reverse=upwards)
    kept = {trial["number"] for trial in finished[:half] + drawn[-half:]}
    for trial in drawn:
        if trial["number"] not in kept:
            trial["intermediate_values"] = []
            trial["user_attrs"] = [
                attribute
                for attribute in trial["user_attrs"]
                if len(str(attribute["value"])) <= _LONG_ATTRIBUTE
            ]
