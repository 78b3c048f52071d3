"""How fast a bundle's model predicts on this machine."""

import statistics
import time

import numpy as np

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.predict import load_model
from fmnist_hpo.environment import threads

__all__ = ["BATCH", "measure_speed"]

BATCH = 1000  # images at once when throughput is measured
LEAST, MOST, ENOUGH_S = 3, 100, 1.0  # repeats of a timing, after a first one; their median counts


def measure_speed(bundle: Bundle) -> dict[str, float]:
    """Seconds for one image, and images per second in batches of 1,000.

    The model runs as in `predict`, once loaded, on noise, which takes as long as pictures.

    Raises:
        InputError: the model cannot be run.
    """
    model = load_model(bundle, threads=threads())
    shape = (BATCH, *bundle.config.image_size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def median_seconds(count: int) -> float:
        model(images[:count])
        times: list[float] = []
        while len(times) < LEAST or (len(times) < MOST and sum(times) < ENOUGH_S):
            began = time.perf_counter()
            model(images[:count])
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    return {
        "latency_seconds": median_seconds(1),
        "images_per_second": BATCH / median_seconds(BATCH),
    }
