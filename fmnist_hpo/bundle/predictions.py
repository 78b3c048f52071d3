"""The predictions of every test image, as the one evaluation stored them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import softmax

__all__ = ["FILE", "Predictions"]

FILE = "predictions.safetensors"  # in a bundle


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Labels and probabilities of n images, in the order of the data set's file."""

    labels: NDArray[np.int64]  # (n,)
    probabilities: NDArray[np.float32]  # (n, classes)

    @classmethod
    def of(
        cls, logits: NDArray[np.floating], labels: NDArray[np.int64], temperature: float
    ) -> Self:
        """The predictions of a model's logits (n, classes).

        The predicted classes are those of the logits also where two of an image differ by less than
        float32 can tell: the sums of a forest's trees are rounded to 1e-16.
        """
        probabilities = softmax(logits, temperature).astype(np.float32)
        rows, predicted = np.arange(len(logits)), logits.argmax(axis=1)
        tied = rows[probabilities.argmax(axis=1) != predicted]
        probabilities[tied, predicted[tied]] = np.nextafter(
            probabilities[tied].max(axis=1), np.float32(1)
        )
        return cls(labels=labels, probabilities=probabilities)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,): the class of the highest probability; the first of equals."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(n,): the probability of the predicted class."""
        confidence: NDArray[np.float32] = self.probabilities.max(axis=1)
        return confidence

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,): whether the predicted class is the true one."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    def to_bytes(self) -> bytes:
        """As safetensors: `labels` int64 (n,), `probabilities` float32 (n, classes)."""
        # It writes the memory as it lies, and some models' probabilities lie column by column.
        return safetensors.numpy.save(
            {
                "labels": np.ascontiguousarray(self.labels),
                "probabilities": np.ascontiguousarray(self.probabilities),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` returned.

        Raises:
            InputError: it is something else, or a label or a probability is out of range.
        """
        try:
            tensors = safetensors.numpy.load(data)
            labels, probabilities = tensors["labels"], tensors["probabilities"]
            (n, classes), inside = probabilities.shape, (probabilities >= 0) & (probabilities <= 1)
            sound = (
                labels.shape == (n,)
                and labels.dtype == np.int64
                and probabilities.dtype == np.float32
                and n > 0
                and bool(inside.all() and (labels >= 0).all() and (labels < classes).all())
            )
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError):
            sound = False
        if not sound:
            raise InputError(
                f"need labels (n,) and probabilities (n, classes) in {FILE}, got something else; "
                "measure the bundle again, or fetch it again"
            )
        return cls(labels=labels, probabilities=probabilities)

    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """Counts: rows are true classes, columns are predicted ones."""
        classes = self.probabilities.shape[1]
        counts = np.bincount(self.labels * classes + self.predicted, minlength=classes**2)
        return tuple(tuple(map(int, row)) for row in counts.reshape(classes, classes))
