"""The chosen model of a study, from its bundle: figures of merit, and what it costs."""

import functools
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.predictions import Predictions
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.metrics import Metrics, wilson_interval
from fmnist_hpo.results.comparison import Chosen, Row
from fmnist_hpo.results.measurement import Measured
from fmnist_hpo.results.places import can_export
from search.errors import ProblemError
from search.report.curves import fit_of
from search.report.facts import training_seconds
from search.study import Study
from search.text import percent

__all__ = ["Model", "calibration_lines", "confused"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The exported trial of a study, else its best one, with its bundle and its measurement."""

    study: str
    metric: str
    trial: FrozenTrial
    validation_images: int | None
    bundle: Bundle | None
    row: Row  # what the model costs
    measured: Measured | None  # of this model; None also when only another one was
    predictions: Predictions | None  # of each test image, as that measurement stored them
    evaluations: int  # how often the study's test set was measured
    of_images: bool = True  # else nothing can be exported, and there is no test set

    @functools.cached_property
    def test(self) -> Metrics | None:
        """What the one sealed measurement found; None without one of this model."""
        return self.measured.evaluation.metrics if self.measured else None

    @property
    def has_probabilities(self) -> bool:
        """Whether it has a bundle, and see there."""
        return self.bundle is not None and self.bundle.config.has_probabilities

    @property
    def accuracy(self) -> float:
        """On the test set where that was measured, else on the validation part."""
        return self.test.accuracy if self.test else float(self.trial.value or 0.0)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `accuracy`; of no width where the images are not known."""
        if self.test:
            return self.test.accuracy_interval
        return self.validation_interval or (self.accuracy, self.accuracy)

    @property
    def validation_interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the trial's value."""
        if self.validation_images is None or self.trial.value is None:
            return None
        correct = round(self.trial.value * self.validation_images)
        return wilson_interval(correct, self.validation_images)

    @property
    def training_seconds(self) -> float:
        """Of the exported model; of the best trial where none was exported."""
        return self.row.train_seconds or training_seconds(self.trial)

    @property
    def latency_ms(self) -> float | None:
        """Of one image; None without a bundle."""
        seconds = self.row.latency_seconds
        return None if seconds is None else 1000 * seconds

    @property
    def fit(self) -> tuple[float, float] | None:
        """Training and validation accuracy at the trial's end; None where not recorded."""
        return fit_of(self.trial, self.metric)

    @classmethod
    def of(cls, study: Study, best: FrozenTrial, row: Row, chosen: Chosen) -> "Model":
        """A study's row of the comparison; its bundle may be of another trial than the best."""
        bundle = chosen.bundle
        return cls(
            study=study.name,
            metric=study.spec.metric,
            trial=best if bundle is None else study.trial(bundle.provenance.trial),
            validation_images=_validation_images(study),
            bundle=bundle,
            row=row,
            measured=chosen.measured,
            predictions=chosen.predictions,
            evaluations=chosen.measurements,
            of_images=can_export(study),
        )


def _validation_images(study: Study) -> int | None:
    """How many images a trial's value was measured on; None where the data are not at hand."""
    try:
        problem = study.problem
        if isinstance(problem, ImageProblem):
            return sum(len(split.validation) for split in problem.splits)
    except ProblemError:
        pass
    return None


def calibration_lines(model: Model) -> list[str]:
    """How the readout of an exported model was decided, and what it changed."""
    if model.bundle is None:
        return []
    readout, lines = model.bundle.config.readout, []
    found = readout.evidence
    if found is not None and found.calibration_error is not None:
        before, after = found.raw_calibration_error or 0.0, found.calibration_error
        line = (
            f"Calibration error: {percent(before)} before, {percent(after)} after a temperature of "
            f"{readout.temperature:g}, on the {found.images:,} validation images that it was "
            "fitted on"
        )
        if model.test is not None and model.test.raw_calibration_error is not None:
            line += (
                f"; {percent(model.test.raw_calibration_error)} and "
                f"{percent(model.test.calibration_error)} on the test set"
            )
        lines.append(f"{line}.")
    if readout.flip:
        why = ""
        if found is not None and found.gained is not None and found.lost is not None:
            why = (
                f"; of {found.images:,} validation images {found.gained:,} are right only so, and "
                f"{found.lost:,} only without"
            )
        lines.append(f"Logits are the mean over each image and its mirror image{why}.")
    return lines


def confused(metrics: Metrics, count: int = 6) -> list[tuple[str, str, int, float]]:
    """Pairs of classes by how often one is taken for the other, the most frequent first.

    Returns:
        (class, other class, images confused in either direction, share of both classes' images).
    """
    table = np.array(metrics.confusion)
    pairs = []
    for one in range(len(table)):
        for other in range(one + 1, len(table)):
            both = int(table[one, other] + table[other, one])
            if both:
                share = both / int(table[one].sum() + table[other].sum())
                pairs.append((metrics.classes[one], metrics.classes[other], both, share))
    return sorted(pairs, key=lambda pair: -pair[2])[:count]
