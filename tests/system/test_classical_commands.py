"""Classical models through every command, and networks under cross-validation, on a slice."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import skops.io
from PIL import Image
from sklearn.ensemble import IsolationForest

from fmnist_hpo import data
from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.bundle.calibration import choose_readout, fit_temperature
from fmnist_hpo.bundle.kinds import logits
from fmnist_hpo.bundle.predict import load_model
from fmnist_hpo.bundle.predictions import Predictions
from fmnist_hpo.classical.bundle import load
from fmnist_hpo.classical_problem import ClassicalProblem
from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.metrics import softmax
from fmnist_hpo.problem import FashionProblem
from search.errors import ProblemError

pytestmark = pytest.mark.slow

SVM = """
problem = "fmnist_hpo.classical_problem:ClassicalProblem"
name = "slice-svm"
metric = "val_accuracy"
direction = "maximize"
mode = "cross-validation"
folds = 3
[budget]
trials = 3
[pruner]
name = "median"
n_startup_trials = 1
[data]
dir = "data"
tune_on = 600
[fixed]
model = "svm"
[space]
C = { float = [1.0, 10.0], log = true }
pca_components = { int = [20, 60] }
"""


def test_a_classical_study_is_searched_exported_measured_and_reproduced(sliced) -> None:
    (sliced.directory / "svm.toml").write_text(SVM)
    done = sliced("run", "svm.toml", "--workers", "1", timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 folds of about 200 images of a stratified part of 600" in done.stdout
    assert "training trial" in done.stdout
    assert "on all 2,000 images" in done.stdout
    assert re.search(r"validation .* %.*, training .* % \(means over 3 folds\)", done.stdout)
    assert re.search(r"test .*\(measured once; trained on 2,000 images\)", done.stdout)

    folder = sliced.directory / "runs" / "slice-svm" / "bundle"
    bundle = Bundle.open(folder)
    assert "model.skops" in bundle.files
    provenance = bundle.provenance
    assert (provenance.folds, provenance.tuned_on, provenance.trained_on) == (3, 600, 2000)
    assert provenance.refit is True
    assert "scikit-learn" in provenance.environment
    assert bundle.metrics.test.metrics.n == 500
    card = bundle.read("MODEL_CARD.md").decode()
    assert "A support vector machine on pixels (projected on" in card
    assert (
        "chosen by the mean of 3 stratified folds of 600 images; then it was trained on all 2,000"
        in card
    )
    assert "decision values" in card
    assert "figures/folds.png" in card

    rows = list(csv.DictReader(io.StringIO(
        sliced("trials", "slice-svm", "--csv", "--format", "cv_results").stdout
    )))  # fmt: skip
    assert len(rows) == 3
    best = json.loads(sliced("best", "slice-svm", "--json").stdout)
    (first,) = (row for row in rows if row["rank_test_score"] == "1")
    assert float(first["mean_test_score"]) == pytest.approx(best["val_accuracy"])
    assert json.loads(first["params"])["C"] == best["params"]["C"]
    assert "add --csv" in sliced.error("trials", "slice-svm", "--format", "cv_results")

    same = sliced("reproduce", "slice-svm")
    assert (same.returncode, "identical: 3 steps" in same.stdout) == (0, True), same.stdout
    shutil.rmtree(sliced.directory / "runs" / "cache")
    same = sliced("reproduce", "slice-svm")
    assert (same.returncode, "identical: 3 steps" in same.stdout) == (0, True), same.stdout

    boot = np.asarray(data.load_training(data.find()).images[0])
    Image.fromarray(boot).save(sliced.directory / "boot.png")
    said = sliced("predict", str(folder), "boot.png").stdout
    assert re.search(r"boot\.png: 9 \(\d, \d, \d\)\n", said)
    assert "was measured once" in sliced.error("evaluate", str(folder))


def problem_on(kind: type[ImageProblem], sliced, **settings: object) -> ImageProblem:
    return kind({"dir": str(sliced.directory / "data"), **settings})


def export_of(sliced, params: dict[str, object]) -> Bundle:
    """A classical model of the first split, as a bundle in memory."""
    problem = problem_on(ClassicalProblem, sliced, tune_on=500)
    model = problem.model(
        params,
        problem.splits[0],
        seed=1,
        curves={},
        checkpoint=None,
        save=lambda data: None,
        say=print,
    )
    return Bundle(path=Path("x"), files={**model.files, "config.json": to_json(model.config)})


@pytest.mark.parametrize(
    "params",
    [
        {"model": "svm", "pca_components": 20},
        {"model": "knn", "scaling": "standard"},
        {"model": "random_forest", "n_estimators": 5},
        {"model": "gradient_boosting", "max_iter": 3},
        {"model": "xgboost", "n_estimators": 3},
        {"model": "logistic_regression", "max_iter": 300, "C": 0.01},
        {"model": "svm", "features": "hog_and_pixels", "scaling": "sqrt", "pca_components": 20},
    ],
    ids=lambda params: f"{params['model']}-{params.get('features', 'pixels')}",
)
def test_every_model_is_the_same_after_skops(sliced, monkeypatch, params) -> None:
    monkeypatch.chdir(sliced.directory)  # the features are kept below
    bundle = export_of(sliced, params)
    assert export_of(sliced, params).files == bundle.files  # so a measurement of it is of both
    problem = problem_on(ClassicalProblem, sliced, tune_on=500)
    (split,) = problem.splits
    outputs = logits(bundle, problem.data.images[split.validation])
    assert outputs.shape == (len(split.validation), 10)
    labels = problem.data.labels[split.validation]
    right = outputs.argmax(axis=1) == labels
    readout, _, _ = choose_readout(bundle, problem.data.images[split.validation], labels, flip="no")
    fitted = 1.0 if params["model"] == "svm" else fit_temperature(outputs, labels)
    assert readout.temperature == fitted
    config = to_json({**json.loads(bundle.read("config.json")), "readout": readout.to_json()})
    read = Bundle(path=bundle.path, files={**bundle.files, "config.json": config})
    calibrated = load_model(read)(problem.data.images[split.validation])
    np.testing.assert_allclose(softmax(calibrated), softmax(outputs, fitted), atol=1e-9)
    shares = Predictions(labels=labels, probabilities=softmax(outputs).astype(np.float32))
    assert np.array_equal(Predictions.from_bytes(shares.to_bytes()).right, right)

    class Held:
        params, seed, index, should_stop = None, 1, 0, False

    Held.params = params
    fold = problem._fold(Held())  # type: ignore[attr-defined]
    assert right.mean() == pytest.approx(fold.fold_score, abs=0.01)  # one image of 101
    assert right.mean() > 0.4


def test_foreign_types_in_a_model_are_not_loaded(sliced, monkeypatch) -> None:
    monkeypatch.chdir(sliced.directory)
    bundle = export_of(sliced, {"model": "knn"})
    foreign = IsolationForest(n_estimators=2).fit(np.zeros((10, 2)))
    foreign.extra = Path("/")
    files = {**bundle.files, "model.skops": skops.io.dumps(foreign)}
    with pytest.raises(InputError, match=r"the types that `export` writes, got .*Path"):
        load(Bundle(path=Path("x"), files=files))
    with pytest.raises(InputError, match=r"model\.skops cannot be read here"):
        load(Bundle(path=Path("x"), files={**bundle.files, "model.skops": b"no zip"}))


def test_xgboost_is_asked_for_in_one_line(sliced, monkeypatch) -> None:
    monkeypatch.setattr("fmnist_hpo.classical.config.find_spec", lambda name: None)
    with pytest.raises(ProblemError) as caught:
        problem_on(ClassicalProblem, sliced).check({"model": "xgboost"})
    assert "pip install -e '.[xgboost]'" in str(caught.value)


def test_settings_of_data_are_checked(sliced) -> None:
    for settings, said in (
        ({"tune_on": 1.5}, "data.tune_on must be a whole number"),
        (
            {"tune_on": 5000},
            "data.tune_on: need a part of 10 to 1,990 images, or all 2,000, got 5,000",
        ),
        ({"tune_on": 5}, "data.tune_on: need a part of 10 to 1,990 images, or all 2,000, got 5;"),
        ({"split_seed": -1}, "need 0 <= data.split_seed"),
        ({"tune_onn": 5}, "did you mean 'tune_on'"),
    ):
        with pytest.raises(ProblemError) as caught:
            problem_on(FashionProblem, sliced, **settings).splits  # noqa: B018
        assert said in str(caught.value)
    with pytest.raises(ProblemError, match="does not apply to a cross-validation"):
        FashionProblem({"validation_fraction": 0.3}, folds=3)


def test_a_network_is_cross_validated_and_refitted_on_all(sliced) -> None:
    (sliced.directory / "ann.toml").write_text(
        SVM.split("[budget]")[0].replace("classical_problem:Classical", "problem:Fashion")
        + """
[budget]
trials = 1
[data]
dir = "data"
[fixed]
family = "ann"
epochs = 2
hidden_units = 32
[[trials]]
name = "one"
"""
    )
    done = sliced("run", "ann.toml", timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = Bundle.open(sliced.directory / "runs" / "slice-svm" / "bundle")
    assert bundle.provenance.folds == 3
    assert bundle.metrics.validation is None
    folds = bundle.metrics.folds
    assert np.mean(folds["fold_score"]) == pytest.approx(bundle.provenance.value)
    # An independent training on the second fold, by the same loop, is that fold.
    from fmnist_hpo.networks import config, training

    problem = FashionProblem({"dir": str(sliced.directory / "data")}, folds=3)
    network, how = config.parse(bundle.provenance.params)
    second = training.train(
        network, how, problem.data, problem.splits[1], seed=bundle.provenance.seed
    )
    assert second.val_accuracy == pytest.approx(folds["fold_score"][1], abs=0.02)
    same = sliced("reproduce", "slice-svm")
    assert (same.returncode, "identical: 3 steps" in same.stdout) == (0, True), same.stdout
