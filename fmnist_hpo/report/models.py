"""The chosen model of a study, from its bundle: figures of merit, and what it costs."""

import functools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from optuna.trial import FrozenTrial

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.metrics import Metrics, wilson_interval
from fmnist_hpo.predictions import FILE, Predictions
from fmnist_hpo.winner import bundle_path
from search.errors import ProblemError
from search.report.facts import fit_of, training_seconds
from search.study import Study

__all__ = ["Model", "confused", "find_bundle"]

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation
WARM_UP, REPEATS = 20, 200  # predictions of one image


def find_bundle(study: Study) -> Bundle | None:
    """The bundle where `run` and `export` put it; None when there is none of this study.

    Raises:
        InputError: it is damaged.
    """
    path = bundle_path(study)
    if not Path(path).exists():
        return None
    bundle = Bundle.open(path)
    return bundle if bundle.provenance["study"] == study.name else None


@dataclass(frozen=True, kw_only=True)
class Model:
    """The best trial of a study, and its bundle where it was exported."""

    study: str
    metric: str
    trial: FrozenTrial
    validation_images: int | None
    bundle: Bundle | None

    @functools.cached_property
    def test(self) -> Metrics | None:
        """What the one sealed measurement found; None while the test set is sealed."""
        stored = self.bundle.metrics["test"] if self.bundle else None
        return Metrics.from_json(stored) if stored else None

    @property
    def evaluations(self) -> int:
        """How often the study's test set was measured."""
        stored = self.bundle.metrics["test"] if self.bundle else None
        return int(stored["evaluations"]) if stored else 0

    @functools.cached_property
    def predictions(self) -> Predictions | None:
        """Of each test image, as the measurement stored them."""
        if self.bundle is None or FILE not in self.bundle.files:
            return None
        return Predictions.from_bytes(self.bundle.files[FILE])

    @property
    def has_probabilities(self) -> bool:
        """Whether its confidence means a probability; that of an SVM's decision values does not."""
        return self.bundle is not None and self.bundle.config.get("outputs") != "decision values"

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
        """Of the best trial."""
        return training_seconds(self.trial)

    @functools.cached_property
    def parameters(self) -> int | None:
        """Trained numbers of a network; None without a bundle, or of another kind of model."""
        if self.bundle is None or "model.safetensors" not in self.bundle.files:
            return None
        tensors = safetensors.numpy.load(self.bundle.files["model.safetensors"])
        return sum(t.size for name, t in tensors.items() if not name.endswith(_BUFFERS))

    @functools.cached_property
    def latency_ms(self) -> float | None:
        """Of one image through the bundle's ONNX model on one thread here: the median.

        None without one.
        """
        if self.bundle is None or "model.onnx" not in self.bundle.files:
            return None
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            self.bundle.files["model.onnx"], options, providers=["CPUExecutionProvider"]
        )
        image = np.zeros((1, 1, *self.bundle.image_size), np.float32)
        times = []
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            session.run(None, {"images": image})
            times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times[WARM_UP:])

    @property
    def fit(self) -> tuple[float, float] | None:
        """Training and validation accuracy at the trial's end; None where not recorded."""
        return fit_of(self.trial, self.metric)

    @classmethod
    def of(cls, study: Study, trial: FrozenTrial) -> "Model":
        """Read a study's bundle, if there is one.

        Raises:
            InputError: it is damaged.
        """
        return cls(
            study=study.name,
            metric=study.spec.metric,
            trial=trial,
            validation_images=_validation_images(study),
            bundle=find_bundle(study),
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
