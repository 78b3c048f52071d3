"""Decides a model's readout on the validation images: its mirror image and its temperature."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle.bundle import Bundle
from fmnist_hpo.bundle.kinds import logits, mirrored
from fmnist_hpo.bundle.records import TEMPERATURES, Evidence, Readout
from fmnist_hpo.metrics import measure

__all__ = ["FLIPS", "Flip", "choose_readout", "fit_temperature"]

Flip = Literal["no", "auto", "yes"]
FLIPS: tuple[Flip, ...] = ("no", "auto", "yes")
# More digits say nothing with thousands of images, and would differ between machines whose sums
# are rounded otherwise: a measurement is bound to the temperature.
DECIMALS = 3


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature that minimises the mean cross-entropy of softmax(logits / temperature).

    Args:
        logits: (n, classes), finite; n >= 1.
        labels: (n,), indices of classes.

    Returns:
        The temperature, rounded; 1 if there is no minimum within `TEMPERATURES`, as where every
        image is right and the cross-entropy falls for ever.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. The
    cross-entropy is convex in 1 / temperature, so its slope has at most one zero.
    """
    from scipy.optimize import brentq

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]

    def slope(scale: float) -> float:
        with np.errstate(under="ignore"):
            shares = np.exp(scale * shifted)
            expected = (shares * shifted).sum(axis=1) / shares.sum(axis=1)
        return float((expected - own).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if not slope(low) < 0 < slope(high):
        return 1.0
    return round(1 / float(brentq(slope, low, high)), DECIMALS)


def choose_readout(
    model: Bundle,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    *,
    flip: Flip,
    before_refit: bool = False,
) -> tuple[Readout, NDArray[np.floating], float]:
    """Decide a readout on validation images.

    Args:
        model: a bundle without a readout, as it is before it is written.
        images, labels: (n, rows, columns) and (n,), n >= 1.
        flip: "auto" takes the mirror image if more of the images are right with it.
        before_refit: whether the model is replaced by one that is trained on these images, too.

    Returns:
        The readout, the logits (n, classes) with it before the temperature, and the accuracy
        without it.

    Raises:
        InputError: the model cannot be read, or its outputs are not finite.
    """
    outputs = logits(model, images)
    plain = outputs.argmax(axis=1) == labels
    takes, gained, lost = False, None, None
    if flip != "no":
        both = (outputs + logits(model, mirrored(images))) / 2
        right = both.argmax(axis=1) == labels
        gained, lost = int((right & ~plain).sum()), int((plain & ~right).sum())
        takes = flip == "yes" or gained > lost
        outputs = both if takes else outputs
    known = model.config.has_probabilities
    temperature = fit_temperature(outputs, labels) if known else 1.0
    found = measure(outputs, labels, model.config.classes, temperature=temperature)
    evidence = Evidence(
        before_refit=before_refit,
        images=len(labels),
        accuracy=found.accuracy,
        gained=gained,
        lost=lost,
        calibration_error=found.calibration_error if known else None,
        raw_calibration_error=found.raw_calibration_error if known else None,
    )
    readout = Readout(temperature=temperature, flip=takes, evidence=evidence)
    return readout, outputs, float(plain.mean())
