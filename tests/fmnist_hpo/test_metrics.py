"""Figures of merit against scikit-learn's and SciPy's."""

import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax as scipy_softmax
from scipy.stats import binomtest
from sklearn.metrics import classification_report, confusion_matrix, log_loss

from fmnist_hpo.metrics import Metrics, measure, softmax, wilson_interval

CLASSES = ("a", "b", "c", "d")


@pytest.fixture
def logits() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(scale=3, size=(500, 4)).astype(np.float32)


@pytest.fixture
def labels() -> NDArray[np.int64]:
    return np.random.default_rng(1).choice(4, size=500, p=[0.6, 0.2, 0.15, 0.05])


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (1, 1), (9432, 10_000), (37, 91)])
def test_wilson_interval_is_scipys(correct: int, n: int) -> None:
    oracle = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, n) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_wilson_interval_reaches_what_is_all_right_or_all_wrong() -> None:
    for n in range(1, 300):
        assert wilson_interval(n, n)[1] == 1
        assert wilson_interval(0, n)[0] == 0


def test_measures_are_scikit_learns(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    metrics = measure(logits, labels, CLASSES)
    predicted = logits.argmax(axis=1)
    np.testing.assert_array_equal(metrics.confusion, confusion_matrix(labels, predicted))
    oracle = classification_report(labels, predicted, target_names=CLASSES, output_dict=True)
    assert metrics.accuracy == oracle["accuracy"]
    for one in metrics.per_class:
        expected = oracle[one.name]
        assert (one.precision, one.recall, one.f1) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"])
        )
        assert one.support == expected["support"]
    probabilities = scipy_softmax(logits.astype(np.float64), axis=1)
    assert metrics.loss == pytest.approx(log_loss(labels, probabilities))
    np.testing.assert_allclose(softmax(logits), probabilities)


def test_calibration_error_is_the_definitions(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    probabilities = scipy_softmax(logits.astype(np.float64), axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert measure(logits, labels, CLASSES).calibration_error == pytest.approx(expected)


def test_calibration_error_is_zero_for_sure_and_right() -> None:
    labels = np.arange(4)
    metrics = measure(np.eye(4) * 1000, labels, CLASSES)  # confidence exactly 1: the last bin
    assert metrics.calibration_error == 0
    assert metrics.loss == 0


def test_a_class_never_seen_nor_predicted_counts_zero() -> None:
    labels = np.array([0, 1])
    metrics = measure(np.eye(4)[[0, 0]], labels, CLASSES)
    assert [one.f1 for one in metrics.per_class] == pytest.approx([2 / 3, 0, 0, 0])
    assert metrics.per_class[3].support == 0


def test_json_reads_back(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    metrics = measure(logits, labels, CLASSES)
    value = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert Metrics.from_json(value) == metrics
    assert value["accuracy_low"] < value["accuracy"] < value["accuracy_high"]


def test_probabilities_import_neither_scipy_nor_scikit_learn() -> None:
    code = (
        "import sys, numpy, fmnist_hpo.metrics; fmnist_hpo.metrics.softmax(numpy.eye(2)); "
        "print([m for m in ('scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_floating_point_error_of_the_caller_is_raised() -> None:
    with np.errstate(all="raise"):
        assert softmax(np.array([[0.0, 1000.0]]))[0].tolist() == [0.0, 1.0]


def test_shapes_must_agree(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match=r"need logits \(n, 4\) and labels \(n,\)"):
        measure(logits, labels[:-1], CLASSES)
