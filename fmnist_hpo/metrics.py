"""Figures of merit of a classifier, from its logits or from its confusion matrix.

scikit-learn and SciPy are imported when they are needed: `predict`, which needs the softmax alone,
does without them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CALIBRATION_BINS",
    "ClassMetrics",
    "Metrics",
    "calibration_bins",
    "measure",
    "softmax",
    "wilson_interval",
]

CALIBRATION_BINS = 15  # equal widths, as in Guo et al. 2017, "On Calibration of Modern ..."


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One class against the rest; a ratio without a denominator is 0, as in scikit-learn."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int  # images of this class


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What was measured on a set of images; everything else follows from it."""

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]  # rows: true class; columns: predicted class
    loss: float  # mean cross-entropy, nats per image
    calibration_error: float  # expected calibration error, 0 to 1
    raw_calibration_error: float | None = None  # at temperature 1; None: an older file lacks it

    @property
    def n(self) -> int:
        """Images measured."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Images whose class was predicted."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of images whose class was predicted, 0 to 1."""
        return self.correct / self.n

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson_interval(self.correct, self.n)

    @property
    def per_class(self) -> tuple[ClassMetrics, ...]:
        """Precision, recall and F1 of each class."""
        from sklearn.metrics import precision_recall_fscore_support

        table = np.array(self.confusion)
        true, predicted = np.indices(table.shape)
        figures = precision_recall_fscore_support(
            true.ravel(),
            predicted.ravel(),
            labels=range(len(table)),
            sample_weight=table.ravel(),
            zero_division=0.0,
        )
        return tuple(
            ClassMetrics(
                name=name,
                precision=float(precision),
                recall=float(recall),
                f1=float(f1),
                support=int(support),
            )
            for name, precision, recall, f1, support in zip(self.classes, *figures, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON values; `from_json` reads it back."""
        low, high = self.accuracy_interval
        return {
            "n": self.n,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "raw_calibration_error": self.raw_calibration_error,
            "per_class": {
                one.name: {
                    "precision": one.precision,
                    "recall": one.recall,
                    "f1": one.f1,
                    "support": one.support,
                }
                for one in self.per_class
            },
            "classes": list(self.classes),
            "confusion": [list(row) for row in self.confusion],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(
            classes=tuple(value["classes"]),
            confusion=tuple(tuple(row) for row in value["confusion"]),
            loss=value["loss"],
            calibration_error=value["calibration_error"],
            raw_calibration_error=value.get("raw_calibration_error"),
        )


def measure(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: tuple[str, ...],
    *,
    temperature: float = 1.0,
) -> Metrics:
    """Measure predictions against labels, in float64.

    Args:
        logits: (n, len(classes)), before the softmax; n >= 1.
        labels: (n,), 0 <= label < len(classes).
        temperature: divides the logits; it has no effect on the predicted classes.
    """
    from sklearn.metrics import confusion_matrix

    n, k = logits.shape
    if labels.shape != (n,) or k != len(classes) or n == 0:
        raise ValueError(
            f"need logits (n, {len(classes)}) and labels (n,), got {logits.shape}, {labels.shape}"
        )
    rows = np.arange(n)
    log_probabilities = _log_softmax(logits, temperature)
    predicted = logits.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, labels=range(k))
    right = predicted == labels
    return Metrics(
        classes=classes,
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        loss=float(-log_probabilities[rows, labels].mean()),
        calibration_error=_calibration_error(np.exp(log_probabilities[rows, predicted]), right),
        raw_calibration_error=_calibration_error(softmax(logits)[rows, predicted], right),
    )


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Logits (n, classes), divided by a temperature, to probabilities (n, classes)."""
    with np.errstate(under="ignore"):
        return np.exp(_log_softmax(logits, temperature))


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927); n >= 1."""
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _log_softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    shifted = (logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperature
    with np.errstate(under="ignore"):  # a share below 1e-308 is 0, whatever the caller has set
        shares = np.exp(shifted)
        result: NDArray[np.float64] = shifted - np.log(shares.sum(axis=1, keepdims=True))
    return result


def _calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Mean over the images of |accuracy - mean confidence| in their bin of confidence."""
    counts, confident, accurate = calibration_bins(confidence, right)
    return float((np.abs(accurate - confident) * counts).sum() / len(confidence))


def calibration_bins(
    confidence: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Images by their confidence, in CALIBRATION_BINS bins of equal width from 0 to 1.

    Returns:
        Of each bin the number of images, their mean confidence and their accuracy, the latter two
        0 in an empty bin.
    """
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    some = np.maximum(counts, 1)
    return (
        counts,
        np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS) / some,
        np.bincount(bins, weights=right, minlength=CALIBRATION_BINS) / some,
    )
