"""Studies of any kind in one table: how good their winners are, what they cost, and who is better.

Nothing is measured on the test set here. Accuracies come from the measurement that each study has
recorded, and per-image predictions from the bundle in which that measurement left them.
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.kinds import kind_of
from fmnist_hpo.bundle.predict import load_model
from fmnist_hpo.bundle.predictions import FILE, Predictions
from fmnist_hpo.environment import threads
from fmnist_hpo.results.winner import Measured, bundle_path, can_export, find_bundle, recorded
from search.study import Study

__all__ = ["Comparison", "Paired", "Row", "compare", "mcnemar"]

BATCH = 1000  # images at once when throughput is measured
LEAST, MOST, ENOUGH_S = 3, 100, 1.0  # repeats of a timing, after a first one; their median counts


@dataclass(frozen=True, kw_only=True)
class Row:
    """One study; None where it has no such figure, or its winner was not exported or measured."""

    study: str
    model: str  # family of the network, or the classical model
    validation_accuracy: float | None  # of the exported trial, else the best; 0 to 1
    test_accuracy: float | None = None  # as recorded, 0 to 1
    test_low: float | None = None  # Wilson's 95 % interval
    test_high: float | None = None
    test_measurements: int = 0
    train_seconds: float | None = None  # of the exported model
    search_seconds: float  # in which at least one worker was at work
    parameters: int | None = None
    model_bytes: int | None = None
    flops: int | None = None  # of one image
    latency_seconds: float | None = None  # of one image
    images_per_second: float | None = None  # in batches of 1,000
    metric: str = "val_accuracy"
    value: float | None = None  # of that trial, in the metric's own unit


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The best study and another one, image by image of the test set."""

    best: str
    other: str
    only_best: int  # images that the best alone has right
    only_other: int
    p_value: float  # McNemar's exact test, two-sided


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found."""

    rows: tuple[Row, ...]  # as the studies were given
    pairs: tuple[Paired, ...]  # the study with the best test accuracy against each other one
    missing: tuple[str, ...]  # a line for each gap in the table, and what fills it
    threads: int  # of the prediction, where speed was measured

    def to_json(self) -> str:
        """Everything, as one JSON object."""
        return json.dumps(asdict(self), indent=2)


def compare(studies: Sequence[Study]) -> Comparison:
    """Compare the winners of studies.

    Raises:
        NoResult: a study has no complete trial.
        InputError: a bundle is damaged.
    """
    rows, missing = [], []
    predictions: dict[str, Predictions] = {}
    for study in studies:
        path, bundle = bundle_path(study), find_bundle(study)
        measured = recorded(study, bundle)
        rows.append(_row(study, bundle, measured))
        if not can_export(study):
            continue
        if bundle is None:
            missing.append(f"{study.name}: no bundle in {path}; `fmnist-hpo export {study.name}`")
        if measured is None:
            missing.append(f"{study.name}: test set not measured; `fmnist-hpo evaluate {path}`")
        elif bundle is not None and (found := _predictions(bundle, measured)) is not None:
            predictions[study.name] = found
        elif bundle is not None:
            missing.append(f"{study.name}: {path} does not hold the predictions of its measurement")
    return Comparison(
        rows=tuple(rows),
        pairs=tuple(_pairs(rows, predictions)),
        missing=tuple(missing),
        threads=threads(),
    )


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """McNemar's exact test: the two-sided p-value that two classifiers err equally often.

    Args:
        one, other: (n,), whether each has the image right; the same images in the same order.

    Source: McNemar 1947; exact: binomial over the images that one alone has right.
    """
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    n = first + second
    # whole numbers: nothing is rounded before the division, and SciPy takes a second to import
    ways, tail = 1, 0
    for k in range(min(first, second) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << n))


def _row(study: Study, bundle: Bundle | None, measured: Measured | None) -> Row:
    trial = study.best if bundle is None else study.trial(bundle.provenance["trial"])
    params = study.params(trial)
    figures: dict[str, Any] = {}
    if measured is not None:
        metrics = measured.evaluation.metrics
        figures["test_accuracy"] = metrics.accuracy
        figures["test_low"], figures["test_high"] = metrics.accuracy_interval
        figures["test_measurements"] = measured.count
    if bundle is not None:
        figures["train_seconds"] = bundle.metrics["fit_seconds"]
        figures |= asdict(kind_of(bundle).size(bundle)) | _speed(bundle)
    return Row(
        study=study.name,
        model=str(params.get("family") or params.get("model") or study.spec.problem.split(":")[-1]),
        validation_accuracy=trial.value if study.spec.metric in study.percent else None,
        metric=study.spec.metric,
        value=trial.value,
        search_seconds=study.ledger.elapsed(),
        **figures,
    )


def _speed(bundle: Bundle) -> dict[str, float]:
    """Of the model as `predict` runs it, once loaded; on noise, which takes as long as pictures."""
    model = load_model(bundle, threads=threads())
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *bundle.image_size), dtype=np.uint8)

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


def _predictions(bundle: Bundle, measured: Measured) -> Predictions | None:
    """Those of the recorded measurement; None when the bundle has none, or another one's."""
    test = bundle.metrics["test"]
    if FILE not in bundle.files or test is None or test["evaluations"] != measured.count:
        return None
    return Predictions.from_bytes(bundle.read(FILE))


def _pairs(rows: Sequence[Row], predictions: dict[str, Predictions]) -> list[Paired]:
    known = [row for row in rows if row.study in predictions]
    if not known:
        return []
    best = max(known, key=lambda row: row.test_accuracy or 0.0)
    truth, mine = predictions[best.study].labels, predictions[best.study].right
    pairs = []
    for row in known:
        theirs = predictions[row.study]
        if row is not best and np.array_equal(theirs.labels, truth):  # the same test set
            pairs.append(
                Paired(
                    best=best.study,
                    other=row.study,
                    only_best=int((mine & ~theirs.right).sum()),
                    only_other=int((theirs.right & ~mine).sum()),
                    p_value=mcnemar(mine, theirs.right),
                )
            )
    return pairs
