"""What a model said of each image of the test set, as the one evaluation stored it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

__all__ = ["FILE", "Predictions"]

FILE = "predictions.safetensors"  # in a bundle


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Truth and probabilities of n images, in the order of the data set's file."""

    labels: NDArray[np.int64]  # (n,)
    probabilities: NDArray[np.float32]  # (n, classes)

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
        """Read what `to_bytes` gave."""
        tensors = safetensors.numpy.load(data)
        return cls(labels=tensors["labels"], probabilities=tensors["probabilities"])
