"""Optuna's interactive figures of a study, as `study.plot`."""

from typing import Any

import optuna
from optuna import visualization

from search.study.rows import utc

__all__ = ["Plots"]


class Plots:
    """Each method returns a `plotly.graph_objects.Figure`; a notebook shows it.

    Args:
        metric: the name of the study's value, for the axes.
    """

    def __init__(self, study: optuna.Study, metric: str) -> None:
        self._study = study
        self._metric = metric

    def history(self) -> Any:
        """The value of each complete trial, and the best so far."""
        return visualization.plot_optimization_history(self._study, target_name=self._metric)

    def curves(self) -> Any:
        """The value at each step of each trial."""
        figure = visualization.plot_intermediate_values(self._study)
        return figure.update_layout(xaxis_title="step", yaxis_title=self._metric)

    def importances(self) -> Any:
        """How much of the value's variation each parameter explains (PED-ANOVA).

        Two or more trials must be complete.
        """
        return visualization.plot_param_importances(self._study, target_name=self._metric)

    def slices(self) -> Any:
        """The value over each parameter alone."""
        return visualization.plot_slice(self._study, target_name=self._metric)

    def parallel(self) -> Any:
        """All parameters of each complete trial as one line."""
        return visualization.plot_parallel_coordinate(self._study, target_name=self._metric)

    def contour(self, params: list[str] | None = None) -> Any:
        """The value over pairs of parameters; name two of them, as all pairs take long."""
        return visualization.plot_contour(self._study, params=params, target_name=self._metric)

    def timeline(self) -> Any:
        """When each trial ran and how it ended; times are UTC."""
        return visualization.plot_timeline(_in_utc(self._study))


def _in_utc(study: optuna.Study) -> optuna.Study:
    """A copy in memory with times in UTC.

    Optuna's are local: the bars of trials would be wrong where clocks were put forward or back.
    """
    copied = optuna.study.create_study(study_name=study.study_name, directions=study.directions)
    for trial in study.get_trials(deepcopy=True):
        for name in ("datetime_start", "datetime_complete"):
            moment = getattr(trial, name)
            if moment is not None:
                setattr(trial, name, utc(moment).replace(tzinfo=None))
        copied.add_trial(trial)
    return copied
