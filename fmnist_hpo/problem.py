"""The only bridge between the search service and the networks: `FashionProblem`."""

import difflib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_hpo import config
from fmnist_hpo.errors import InputError
from search.errors import ProblemError
from search.problem import Cost, Diverged, Outline, Run, TrialStopped

if TYPE_CHECKING:
    from fmnist_hpo.data import Split, TrainingData

__all__ = ["FashionProblem"]

_SETTINGS = ("dir", "validation_fraction", "split_seed")


class FashionProblem:
    """An ANN or a CNN on Fashion-MNIST, or on any data set in the same idx format.

    Args:
        settings: the study file's `[data]` table: `dir` (default: Fashion-MNIST, found or
            fetched), `validation_fraction` (default 0.2), `split_seed` (default 0).

    Raises:
        ProblemError: a key or a value that is wrong.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        for key in settings:
            if key not in _SETTINGS:
                near = difflib.get_close_matches(key, _SETTINGS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_SETTINGS)}"
                raise ProblemError(f"[data] has an unknown key {key!r}; {hint}")
        directory = settings.get("dir")
        if directory is not None and not isinstance(directory, str):
            raise ProblemError(f"data.dir must be a path in quotes, got {directory!r}")
        self._directory = None if directory is None else Path(directory).expanduser()
        self._fraction = settings.get("validation_fraction", 0.2)
        if isinstance(self._fraction, bool) or not isinstance(self._fraction, float):
            raise ProblemError(f"data.validation_fraction must be a number, got {self._fraction!r}")
        if not 0 < self._fraction < 1:
            raise ProblemError(
                f"need 0 < data.validation_fraction < 1, got {self._fraction}; 0.2 is usual"
            )
        self._split_seed = settings.get("split_seed", 0)
        if isinstance(self._split_seed, bool) or not isinstance(self._split_seed, int):
            raise ProblemError(f"data.split_seed must be a whole number, got {self._split_seed!r}")

    @cached_property
    def data(self) -> "TrainingData":
        """The training images and labels, opened once per process.

        Raises:
            ProblemError: they cannot be found, or are not what they should be.
        """
        from fmnist_hpo import data

        try:
            return data.load_training(self.directory, known=self._directory is None)
        except InputError as error:
            raise ProblemError(str(error)) from error

    @cached_property
    def directory(self) -> Path:
        """Where the data set lies."""
        from fmnist_hpo import data

        if self._directory is not None:
            return self._directory
        try:
            return data.find(None)
        except InputError as error:
            raise ProblemError(str(error)) from error

    @property
    def known(self) -> bool:
        """Whether the data set is Fashion-MNIST itself, whose hashes are known."""
        return self._directory is None

    @cached_property
    def split(self) -> "Split":
        """Which images are trained on and which are validated on."""
        from fmnist_hpo import data

        try:
            return data.split(self.data, validation_fraction=self._fraction, seed=self._split_seed)
        except InputError as error:
            raise ProblemError(str(error)) from error

    @cached_property
    def everything(self) -> "Split":
        """All images for training and none for validation, for a refit."""
        from fmnist_hpo import data

        return data.split(self.data, validation_fraction=0.0, seed=self._split_seed)

    def check(self, params: Mapping[str, Any]) -> None:
        """See `search.problem.Problem.check`."""
        try:
            config.parse(params)
        except InputError as error:
            raise ProblemError(str(error)) from error

    def fingerprint(self) -> Mapping[str, str]:
        """See `search.problem.Problem.fingerprint`: the hashes of the files and of the split."""
        return {**self.data.hashes, "split": self.split.hash}

    def environment(self) -> Mapping[str, str]:
        """See `search.problem.Problem.environment`."""
        from fmnist_hpo.environment import describe

        return describe()

    def outline(self, params: Mapping[str, Any]) -> Outline:
        """See `search.problem.Probing.outline`; the size is in FLOPs of forward passes."""
        from fmnist_hpo import probe

        network, how = config.parse(params)
        data, images = self.data, how.epochs * len(self.split.train)
        return Outline(
            size=float(probe.flops(network, data.image_size, len(data.classes)) * images),
            remarks=probe.remarks(network, data.image_size),
        )

    def probe(self, params: Mapping[str, Any]) -> Cost:
        """See `search.problem.Probing.probe`; a step is an epoch."""
        from fmnist_hpo import probe, training

        network, how = config.parse(params)
        with training.memory_errors():
            cost = probe.measure_epoch(network, how, self.data, self.split)
        return Cost(
            steps=how.epochs, step_seconds=cost.epoch_seconds, start_seconds=cost.start_seconds
        )

    def run(self, run: Run) -> float:
        """Train one network; the value is the last epoch's validation accuracy."""
        from fmnist_hpo import training

        network, how = config.parse(run.params)
        resume = run.load_checkpoint()

        def report(epoch: int, metrics: training.EpochMetrics) -> None:
            curves = {k: v for k, v in vars(metrics).items() if v is not None}
            run.report(epoch, curves["val_accuracy"], **curves)

        def on_epoch(epoch: int, metrics: training.EpochMetrics, save: training.Save) -> None:
            run.save_checkpoint(save())
            report(epoch, metrics)

        if resume is not None:
            for epoch, metrics in enumerate(training.history(resume), start=1):
                report(epoch, metrics)
        try:
            result = training.train(
                network,
                how,
                self.data,
                self.split,
                seed=run.seed,
                resume=resume,
                should_stop=lambda: run.should_stop,
                on_epoch=on_epoch,
            )
        except training.Diverged as error:
            raise Diverged(str(error)) from error
        except training.Interrupted as stopped:
            run.save_checkpoint(stopped.checkpoint)
            raise TrialStopped from stopped
        value: float = result.val_accuracy
        return value
