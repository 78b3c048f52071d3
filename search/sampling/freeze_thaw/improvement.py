"""What may be gained, as an expectation."""

import numpy as np
from scipy.special import erfcx, ndtr

from search.sampling.freeze_thaw.process import Array

__all__ = ["log_expected_improvement"]

FAR = 1e4  # deviations below 0 from which on the leading term is exact


def log_expected_improvement(mean: Array, deviation: Array) -> Array:
    """The logarithm of E[max(y, 0)] for normal y, which stays finite far below 0.

    Source: Ament et al., "Unexpected improvements to expected improvement for Bayesian
    optimization", arXiv 2310.20708, for the form below -1.

    Args:
        mean, deviation: (m,) each, of the improvements; deviation > 0.

    Returns:
        (m,)
    """
    z: Array = mean / deviation
    above, below = np.maximum(z, -1.0), np.clip(z, -FAR, -1.0)
    near = np.log(np.exp(-0.5 * above**2) / np.sqrt(2.0 * np.pi) + above * ndtr(above))
    tail = np.log1p(below * np.sqrt(0.5 * np.pi) * erfcx(-below / np.sqrt(2.0)))
    tail -= 2.0 * np.log(np.maximum(-z, FAR) / FAR)
    far = -0.5 * z * z - 0.5 * np.log(2.0 * np.pi) + tail
    logs: Array = np.where(z > -1.0, near, far) + np.log(deviation)
    return logs
