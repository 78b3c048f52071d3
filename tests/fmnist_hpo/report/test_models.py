"""The report's figures on classes and models, by the data in them and other programs' results."""

import dataclasses

import numpy as np
import pytest
from made_trials import lines, trial
from sklearn.calibration import calibration_curve

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.evaluation import Evaluation, attach, evaluate
from fmnist_hpo.bundle.predictions import FILE, Predictions
from fmnist_hpo.metrics import CALIBRATION_BINS, Metrics, calibration_bins
from fmnist_hpo.report import figures
from fmnist_hpo.report.models import Model, calibration_lines, confused
from fmnist_hpo.report.write import _accuracy_lines
from fmnist_hpo.results.comparison import Row
from fmnist_hpo.results.measurement import Measured

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(trained, fashion_dir, tmp_path_factory) -> Bundle:
    bundle = trained.export(tmp_path_factory.mktemp("measured") / "bundle")
    return attach(bundle, evaluate(bundle, fashion_dir), 1)


def row(**figures) -> Row:
    return Row(study="small", model="cnn", validation_accuracy=0.8, search_seconds=60.0, **figures)


@pytest.fixture(scope="module")
def model(measured) -> Model:
    from optuna.trial import TrialState

    best = trial(3, TrialState.COMPLETE, [0.7, 0.8])
    return Model(
        study="small",
        metric="val_accuracy",
        trial=best,
        validation_images=1000,
        bundle=measured,
        row=row(parameters=5000, latency_seconds=0.002, train_seconds=7.0),
        measured=Measured(
            evaluation=Evaluation.from_json(measured.metrics.test.to_json()),
            trial=best.number,
            count=1,
        ),
        predictions=Predictions.from_bytes(measured.read(FILE)),
        evaluations=1,
    )


def metrics(table) -> Metrics:
    return Metrics(
        classes=tuple("abcd"[: len(table)]), confusion=tuple(map(tuple, table)), loss=0.1,
        calibration_error=0.0,
    )  # fmt: skip


def test_a_model_says_what_its_bundle_holds(model, measured):
    assert model.test.n == 10_000
    assert model.accuracy == model.test.accuracy == model.predictions.right.mean()
    assert model.evaluations == 1
    assert (model.latency_ms, model.training_seconds) == (2.0, 7.0)
    assert model.fit == (pytest.approx(0.85), 0.8)
    low, high = model.validation_interval
    assert low < 0.8 < high
    (calibration,) = calibration_lines(model)
    for part in (measured.config.readout.evidence, model.test):
        assert f"{100 * part.raw_calibration_error:.2f} %" in calibration
        assert f"{100 * part.calibration_error:.2f} %" in calibration
    assert calibration in _accuracy_lines(model)


def test_a_cross_validated_model_is_judged_by_the_means_of_its_folds(model):
    from optuna.trial import TrialState

    folds = trial(1, TrialState.COMPLETE, [0.8, 0.75])
    folds.user_attrs["curves"] = {
        "step": [1, 2], "fold_score": [0.8, 0.7], "fold_train_score": [0.9, 1.0],
        "fit_seconds": [3.0, 4.0],
    }  # fmt: skip
    found = dataclasses.replace(model, trial=folds, row=row())
    assert found.fit == (pytest.approx(0.95), pytest.approx(0.75))
    assert found.training_seconds == 7.0


def test_with_patience_training_and_validation_are_those_of_the_best_step(model):
    from optuna.trial import TrialState

    stopped = trial(1, TrialState.COMPLETE, [0.7, 0.8, 0.75])
    stopped.value = 0.8
    stopped.user_attrs["curves"] = {
        "step": [1, 2, 3], "val_accuracy": [0.7, 0.8, 0.75], "train_accuracy": [0.7, 0.85, 0.95],
    }  # fmt: skip
    assert dataclasses.replace(model, trial=stopped).fit == (0.85, 0.8)


def test_the_hardest_class_is_one_that_has_images(model):
    found = Evaluation(metrics=metrics([[5, 0, 1], [0, 0, 0], [2, 0, 6]]), hashes={})
    measured = Measured(evaluation=found, trial=0, count=1)
    *_, hardest = _accuracy_lines(dataclasses.replace(model, measured=measured))
    assert hardest.startswith("Hardest: a (F1 76.9 %)")


def test_a_model_without_a_bundle_leaves_cells_empty(model):
    bare = dataclasses.replace(
        model, bundle=None, validation_images=None, row=row(), measured=None, predictions=None,
        evaluations=0,
    )  # fmt: skip
    assert (bare.test, bare.latency_ms) == (None, None)
    assert bare.training_seconds == 20.0
    assert bare.accuracy == 0.8
    assert bare.interval == (0.8, 0.8)


def test_the_reliability_is_scikit_learns(model):
    confidence, right = model.predictions.confidence, model.predictions.right
    counts, confident, accurate = calibration_bins(confidence, right)
    expected = calibration_curve(right, confidence, n_bins=CALIBRATION_BINS)
    assert counts.sum() == 10_000
    assert accurate[counts > 0] == pytest.approx(expected[0], abs=2e-3)
    assert confident[counts > 0] == pytest.approx(expected[1], abs=2e-3)
    drawn = figures.draw_reliability(model.predictions, model.test.calibration_error, "t")
    drawn.canvas.draw()
    labels = [text.get_text() for axes in drawn.axes for text in axes.get_yticklabels()]
    assert labels and not any("$" in label for label in labels)  # no TeX: names are people's
    upper, lower = drawn.get_axes()
    assert lines(upper)["this model"].get_ydata() == pytest.approx(100 * accurate[counts > 0])
    assert [bar.get_height() for bar in lower.patches] == counts.tolist()
    shown = f"{100 * model.test.calibration_error:.2f} %"
    assert shown in upper.get_title()


def test_the_confused_pairs_are_counted_in_both_directions():
    found = confused(metrics([[8, 2, 0], [3, 6, 1], [0, 0, 10]]))
    assert found == [("a", "b", 5, 0.25), ("b", "c", 1, 0.05)]


def test_the_confusion_matrix_and_the_classes_hold_the_counts(model):
    axes = figures.draw_confusion(model.test, "t").get_axes()[0]
    cells = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text())
             for t in axes.texts}  # fmt: skip
    table = np.array(model.test.confusion)
    assert cells == {tuple(at): table[tuple(at)] for at in np.argwhere(table)}
    (axes,) = figures.draw_classes(model.test, "t").get_axes()
    by_f1 = sorted(model.test.per_class, key=lambda one: -one.f1)
    assert lines(axes)["F1"].get_xdata() == pytest.approx([100 * one.f1 for one in by_f1])
    assert lines(axes)["recall"].get_xdata() == pytest.approx([100 * one.recall for one in by_f1])
    assert axes.get_yticklabels()[-1].get_text() == by_f1[-1].name


def test_models_are_compared_by_what_is_known_of_them(model):
    bare = dataclasses.replace(model, study="bare", bundle=None, row=row())
    panels = figures.draw_comparison([model, bare], "t").get_axes()
    times, parameters, latency = panels
    assert [c[0].get_xdata().tolist() for c in times.containers] == [[7.0], [20.0]]
    assert [c[0].get_xdata().tolist() for c in parameters.containers] == [[5000]]
    assert len(latency.containers) == 1
    for axes in (times, parameters):
        labels = [
            tick.get_text() for tick in axes.get_xticklabels() + axes.get_xticklabels("minor")
        ]
        assert 2 <= len(labels) <= 4, labels  # however close the models are
        assert all(label.replace(",", "").replace(".", "").isdigit() for label in labels)
    (axes,) = figures.draw_overfitting([model, bare], "t").get_axes()
    assert [text.get_text() for text in axes.texts] == ["+5.0", "+5.0"]
