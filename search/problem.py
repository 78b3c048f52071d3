"""What an application implements (`Problem`), and what it gets for one trial (`TrialContext`)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "Cost",
    "Diverged",
    "Outline",
    "Probing",
    "Problem",
    "Refitting",
    "Reshuffling",
    "Resumable",
    "StaticMetrics",
    "TrialContext",
    "TrialPruned",
    "TrialStopped",
]


class Diverged(Exception):
    """Raised by a problem when a trial's numbers are no longer finite."""


class TrialPruned(Exception):
    """Raised by `TrialContext.report` when the pruner ends the trial; let it pass."""


class TrialStopped(Exception):
    """Raised by a problem or by `TrialContext.report` when `should_stop` is true; let it pass."""


class TrialContext(Protocol):
    """One trial, as its problem sees it.

    Steps count from 1 (an epoch, a fold). A retried trial is handed the reports and the checkpoint
    of the attempt before it.
    """

    @property
    def params(self) -> Mapping[str, Any]:
        """Every parameter of the trial: `[fixed]` and sampled ones."""
        ...

    @property
    def seed(self) -> int:
        """0 <= seed < 2**63; the same for every attempt of a lineage."""
        ...

    @property
    def wanted(self) -> Collection[str]:
        """The names of the metrics that the study's aims and constraints need."""
        ...

    @property
    def should_stop(self) -> bool:
        """True when the trial must end soon; cheap, meant to be asked after every batch.

        The problem then saves a checkpoint and raises `TrialStopped`.
        """
        ...

    def load_checkpoint(self) -> bytes | None:
        """The last bytes saved in this lineage; None when there are none that can be trusted."""
        ...

    def save_checkpoint(self, data: bytes) -> None:
        """Replace the lineage's checkpoint, whole or not at all.

        Save a step before you report it, with the figures of all steps so far: a worker may die
        between the two, and who resumes then reports what was saved but never reported.
        """
        ...

    def report(self, step: int, value: float, **curves: float) -> None:
        """Record the study's metric at a step, with further curves (losses, seconds) by name.

        A step that is already recorded is passed over, so a resumed problem reports its whole
        history again, from the checkpoint.

        Raises:
            TrialPruned: the pruner ends the trial.
            TrialStopped: the trial was asked to stop, or is no longer ours.
            ValueError: a step below 0 or from 2**31 on, more than 1,000 curves, or a name of more
                than 200 characters.
        """
        ...


class Problem(Protocol):
    """What is searched. Built once per process from the study file, then run for many trials.

    A problem is named in a study file as `module:Class`; the class is called with the file's
    `[data]` table (empty when there is none) as its only argument, and raises `ProblemError` when
    the table is wrong. A problem that takes a second argument `folds: int | None = None` can be
    studied with `mode = "cross-validation"`: given a number, its steps are folds, and its `run` is
    most simply `search.cross_validate`.

    Three class attributes are optional. `returns = (metric, direction)`: study files that disagree
    are rejected. `measures: tuple[str, ...]`: the names of further metrics that `run` returns, on
    which a study may put a second aim or constraints. `percent: tuple[str, ...]`: names of metrics
    and curves in [0, 1] that reports show as a percentage; it is stored with the study when the
    study is created. All other numbers are shown by their magnitude.

    Example:
        A search for the step size of a gradient descent on x ** 4. It resumes where it was
        stopped, is pruned, and notices numbers that are no longer finite::

            import json
            import math
            import platform

            from search import Diverged, ProblemError, TrialStopped


            class Descent:
                returns = ("distance", "minimize")

                def __init__(self, settings):
                    self.start = settings.get("start", 1.0)

                def check(self, params):
                    if params["step_size"] <= 0:
                        raise ProblemError(f"need step_size > 0, got {params['step_size']}")

                def fingerprint(self):
                    return {"start": repr(self.start)}

                def environment(self):
                    return {"python": platform.python_version()}

                def run(self, trial):
                    saved = trial.load_checkpoint()
                    points = json.loads(saved) if saved else [self.start]
                    for step, x in enumerate(points[1:], start=1):
                        trial.report(step, abs(x))  # a step that is recorded is passed over
                    while len(points) <= trial.params["steps"]:
                        if trial.should_stop:
                            raise TrialStopped
                        x = points[-1] - trial.params["step_size"] * 4 * points[-1] ** 3
                        if not math.isfinite(x):
                            raise Diverged("x is no longer finite")
                        points.append(x)
                        trial.save_checkpoint(json.dumps(points).encode())
                        trial.report(len(points) - 1, abs(x))
                    return abs(points[-1])

        In `descent.py`, with this study file beside it, `python -m search run descent.toml`
        searches::

            problem = "descent:Descent"
            name = "descent"
            metric = "distance"
            direction = "minimize"
            [budget]
            trials = 20
            [fixed]
            steps = 10
            [space]
            step_size = { float = [0.001, 0.5], log = true }
    """

    def check(self, params: Mapping[str, Any]) -> None:
        """Raise `ProblemError` when these parameters cannot be run. Cheap: no training.

        It is asked about several hundred configurations when a study is created.
        """
        ...

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers depend on besides parameters and seed: hashes of data and of splits.

        Stored with the study and with every trial; a worker whose fingerprint differs is refused.
        """
        ...

    def environment(self) -> Mapping[str, str]:
        """Where it runs: versions, processor, device, threads. Stored with every trial."""
        ...

    def run(self, trial: TrialContext, /) -> float | Mapping[str, float]:
        """Carry one trial through and return the final value of the study's metric.

        A problem with `measures` returns its metrics by name: the study's first metric, those of
        `trial.wanted` that it measures, and others as it likes. What takes time to measure is
        measured only where it is wanted.

        Raises:
            Diverged: the numbers are no longer finite.
            MemoryError: the device or the machine has no memory left.
            TrialPruned, TrialStopped: passed through from `trial`.
        """
        ...


@runtime_checkable
class Resumable(Protocol):
    """What a problem may offer besides, so that its trials can be paused (`freeze-thaw`).

    A trial is paused at a report, by `TrialStopped`, and goes on later, maybe elsewhere, from the
    checkpoint that was saved before that report: as one that was asked to stop. With this method a
    problem declares that

    - every value it reports is honest on its own: nothing, such as a learning rate that falls
      towards the end, depends on how many steps are still to come;
    - a trial that goes on from its checkpoint reports exactly what it would have reported without
      the pause;
    - steps are 1, 2, ..., `last_step`, in a unit in which trials can be compared.

    Example:
        The problem of `Problem`'s example saves every point before it reports it, and its step
        size stays the same. One method makes it resumable::

            class ResumableDescent(Descent):
                def last_step(self, params):
                    return params["steps"]

        With this study file its trials are paused, and the promising ones go on, until they have
        reported 60 steps together::

            problem = "descent:ResumableDescent"
            name = "paused-descent"
            metric = "distance"
            direction = "minimize"
            [budget]
            trials = 8
            steps = 24
            [fixed]
            steps = 10
            [space]
            step_size = { float = [0.001, 0.5], log = true }
    """

    def last_step(self, params: Mapping[str, Any]) -> int:
        """The step whose report completes a trial of these parameters; >= 1. Cheap.

        Args:
            params: every parameter, as in `TrialContext.params`.

        Raises:
            ProblemError: a trial of these parameters cannot be cut, as a rule of its training
                needs to know the end.
        """
        ...


@runtime_checkable
class Refitting(Protocol):
    """What a problem offers whose best configuration is trained again on all data, by `[refit]`.

    The service itself never does that: whoever exports the model does, with these parameters.
    """

    def refit_params(
        self, params: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The parameters of that training.

        Args:
            params: all of a trial, without those that do not apply beside the overrides.
            overrides: those of `[refit]`, which replace the trial's.

        Raises:
            ProblemError: nothing can be trained with them.
        """
        ...


@runtime_checkable
class Reshuffling(Protocol):
    """What a problem may offer besides, so that trials are repeated on other splits of its data.

    A trial with `reshuffle`, as those that confirm a search are (`[confirm]`), is run by another
    problem: the one that this method returns. The data are the same, and as many train and as many
    validate; which of them do is drawn again for each repeat.

    Example:
        The data of `Problem`'s example are one number, the start. Another draw of it::

            import random


            class DrawnDescent(Descent):
                def reshuffled(self, repeat):
                    drawn = random.Random(repeat).uniform(0.5, 1.5)
                    return DrawnDescent({"start": drawn})

        After this search the best three are run again, each from four other starts; the one with
        the best mean is the study's best trial::

            problem = "descent:DrawnDescent"
            name = "drawn-descent"
            metric = "distance"
            direction = "minimize"
            [budget]
            trials = 8
            [confirm]
            top = 3
            seeds = 4
            [fixed]
            steps = 10
            [space]
            step_size = { float = [0.001, 0.5], log = true }
    """

    def reshuffled(self, repeat: int) -> Problem:
        """The same problem on another split of its data; never on data that are held back.

        Args:
            repeat: >= 0. Equal numbers give the same split, in every process and on every machine.
        """
        ...


@runtime_checkable
class StaticMetrics(Protocol):
    """What a problem may offer besides, so that `[constraints]` cost no training.

    A proposal whose static metrics break a constraint is never trained: the worker asks the
    sampler for another one.

    Example:
        The steps of `Problem`'s example have a price that is known in advance::

            class PricedDescent(Descent):
                def static_metrics(self, params):
                    return {"evaluations": 3 * params["steps"]}

        No trial of this study has more than 30 evaluations::

            problem = "descent:PricedDescent"
            name = "priced-descent"
            metric = "distance"
            direction = "minimize"
            [budget]
            trials = 8
            [constraints]
            evaluations = { max = 30 }
            [space]
            steps = { int = [1, 20] }
            step_size = { float = [0.001, 0.5], log = true }
    """

    def static_metrics(self, params: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics by name that follow from the parameters alone, such as a model's size.

        The names are the same for all parameters. It is called for each proposal, up to some
        hundred times a trial where the constraints are hard to keep: a few milliseconds, no
        training. It may open the data.

        Args:
            params: every parameter, as in `TrialContext.params`.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What can be said of a configuration without running it."""

    size: float  # the work of a whole trial; any unit, only compared
    remarks: tuple[str, ...] = ()  # why it makes no sense, where it makes none


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a trial of a configuration takes here, when nothing ends or disturbs it."""

    steps: int
    step_seconds: float
    start_seconds: float  # before the first step
    share: float = 1.0  # of its processors' time that others left it while it was measured, 0 to 1

    @property
    def seconds(self) -> float:
        """From the trial's start to its end."""
        return self.start_seconds + self.steps * self.step_seconds


@runtime_checkable
class Probing(Protocol):
    """What a problem may offer besides, so that `plan` can foresee a study of it."""

    def outline(self, params: Mapping[str, Any]) -> Outline:
        """Judge a configuration. Cheap: no data, no training."""
        ...

    def probe(self, params: Mapping[str, Any]) -> Cost:
        """Measure a configuration on a part of its work, about a second of it.

        Raises:
            MemoryError: the device or the machine has too little memory for it.
        """
        ...
