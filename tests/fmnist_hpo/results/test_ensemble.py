"""`export --ensemble` on a small study of a slice of the real images; the choice against sums."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from slices import write_slice

import search
from fmnist_hpo import cli
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.calibration import fit_temperature
from fmnist_hpo.bundle.ensemble import Selection, members
from fmnist_hpo.bundle.kinds import logits, mirrored, size_of
from fmnist_hpo.bundle.predict import load_model, predict
from fmnist_hpo.bundle.predictions import FILE
from fmnist_hpo.results.comparison import compare
from fmnist_hpo.results.ensemble import select
from fmnist_hpo.results.places import bundle_path, ensemble_path

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "several"
metric = "val_accuracy"
direction = "maximize"
[data]
dir = "data"
[fixed]
family = "ann"
batch_size = 32
epochs = 2
[[trials]]
name = "wide"
params = { hidden_units = 32 }
[[trials]]
name = "standard"
params = { hidden_units = 24, normalization = "standard", label_smoothing = 0.2 }
[[trials]]
name = "deep"
params = { hidden_units = 16, layers = 2, batch_norm = true }
"""


def greedy(outputs: list[np.ndarray], labels: np.ndarray, size: int) -> list[int]:
    """Caruana's selection as plain loops."""
    chosen: list[int] = []
    for _ in range(size):
        scores = []
        for index in range(len(outputs)):
            mean = sum(outputs[one] for one in [*chosen, index]) / (len(chosen) + 1)
            loss = (logsumexp(mean, axis=1) - mean[np.arange(len(labels)), labels]).mean()
            scores.append(((mean.argmax(1) == labels).sum(), -round(loss, 9), -index))
        chosen.append(-max(scores)[2])
    return chosen


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    models=st.integers(1, 6),
    size=st.integers(1, 7),
    noise=st.floats(0.5, 3),
)
def test_the_choice_is_the_plain_greedy_one(seed, models, size, noise):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, 40)
    outputs = [2 * np.eye(4)[labels] + noise * draw.normal(size=(40, 4)) for _ in range(models)]
    assert select(outputs, labels, size) == greedy(outputs, labels, size)


def calibrated(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    return logits(bundle, images).astype(np.float64) / bundle.config.readout.temperature


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_ensemble_is_chosen_exported_used_measured_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_slice(tmp_path / "data", train=1000, test=300)
    study = search.create(SPEC)
    search.work(study)
    capsys.readouterr()
    assert cli.main(["export", "several", "--ensemble", "4", "--flip"]) == 0
    assert "ensemble of trials " in capsys.readouterr().out
    bundle = Bundle.open(ensemble_path(study))
    (split,) = study.problem.splits  # type: ignore[attr-defined]
    images = study.problem.data.images[split.validation]  # type: ignore[attr-defined]
    labels = study.problem.data.labels[split.validation]  # type: ignore[attr-defined]

    # The members are the greedy choice of the trials' calibrated logits, each stored once.
    selection = Selection.of(bundle.config)
    chosen = {member.trial: part for member, part in members(bundle)}
    assert {name for name in bundle.files if name.endswith(".safetensors")} == {
        f"members/{trial}/model.safetensors" for trial in chosen
    }
    assert selection.size == 4
    assert bundle.provenance.members == {str(one.trial): one.count for one in selection.members}
    terms = []
    for member, part in members(bundle):
        outputs = logits(part, images)
        right = (outputs.argmax(1) == labels).mean()
        assert member.accuracy == right == study.trial(member.trial).value
        assert part.config.readout.temperature == fit_temperature(outputs, labels)
        terms.append((member.count, calibrated(part, images)))
    assert selection.single.accuracy == max(trial.value for trial in study.trials)
    mean = sum(count * outputs for count, outputs in terms) / 4
    assert selection.accuracy == (mean.argmax(1) == labels).mean()

    # Its logits are the members' mean, over both mirror images; so is one ONNX model's.
    other = sum(
        member.count * calibrated(part, mirrored(images)) for member, part in members(bundle)
    )
    both = (mean + other / 4) / 2
    np.testing.assert_allclose(logits(bundle, images), both, rtol=1e-9)
    assert bundle.config.readout.temperature == fit_temperature(both, labels)
    assert bundle.metrics.validation.accuracy == (both.argmax(1) == labels).mean()
    exported = load_model(bundle)(images)
    expected = both / bundle.config.readout.temperature
    np.testing.assert_allclose(exported, expected, atol=0.03 * np.abs(both).max())  # bf16 or not
    assert predict(bundle, images[:1])[0].name == bundle.config.classes[exported[0].argmax()]
    assert size_of(bundle).flops == 2 * sum(size_of(part).flops for part in chosen.values())

    # It is measured beside the study's single model, and counts with it.
    assert cli.main(["export", "several"]) == 0
    assert cli.main(["evaluate", str(bundle_path(study))]) == 0
    assert cli.main(["evaluate", str(bundle.path)]) == 2
    assert "was measured once" in capsys.readouterr().err
    assert cli.main(["evaluate", str(bundle.path), "--again"]) == 0
    measured = Bundle.open(bundle.path)
    assert measured.metrics.test.evaluations == 2
    beside = Bundle.open(bundle_path(study))  # its figure stays, and is no longer the only one
    assert beside.metrics.test.evaluations == 2
    assert "measured 2 times in this study" in beside.read("MODEL_CARD.md").decode()
    assert FILE in beside.files
    found = compare([study])
    assert [row.study for row in found.rows] == ["several", "several, ensemble"]
    assert [row.test_measurements for row in found.rows] == [2, 2]
    assert found.rows[1].test_accuracy == measured.metrics.test.metrics.accuracy
    assert found.rows[1].validation_accuracy == bundle.metrics.validation.accuracy
    assert [row.mirrored for row in found.rows] == [False, True]
    assert found.rows[1].latency_seconds > 0
    assert len(found.pairs) == 1
    assert found.missing == ()
    capsys.readouterr()
    assert cli.main(["compare", "several", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["rows"][1]
    assert shown["model"] == f"{len(chosen)} networks, ensemble of 4"

    # Card and report say who is in it, and that the choice flatters.
    single = f"{100 * selection.single.accuracy:.2f} %"
    together = f"{100 * selection.accuracy:.2f} %"
    card = measured.read("MODEL_CARD.md").decode()
    assert cli.main(["report", "several", "--out", "page"]) == 0
    page = Path("page/report.html").read_text()
    for text in (card, page):
        assert "optimistically biased" in text
        assert single in text
        assert together in text
    assert "The test set was measured 2 times in this study" in card

    # A refit trains every member on all images, with what was decided before.
    assert cli.main(["export", "several", "--ensemble", "4", "--flip", "auto", "--refit"]) == 0
    refit = Bundle.open(bundle.path)
    assert Selection.of(refit.config) == selection
    assert refit.provenance.trained_on == 1000
    assert refit.metrics.validation is None
    assert refit.metrics.test is None
    assert refit.config.readout.evidence.before_refit
    told = "The ensemble of the trials' own weights that chose the configuration had"
    assert told in refit.read("MODEL_CARD.md").decode()
    one = next(iter(chosen))
    weights = f"members/{one}/model.safetensors"
    assert refit.read(weights) != bundle.read(weights)


def test_what_cannot_be_an_ensemble_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = SPEC[: SPEC.index('[[trials]]\nname = "standard"')].replace("epochs = 2", "epochs = 1")
    monkeypatch.chdir(tmp_path)
    write_slice(tmp_path / "data", train=300, test=20)
    search.work(search.create(spec))
    capsys.readouterr()
    for options, said in (
        (["--ensemble", "3"], "need at least 2 complete trials with kept weights"),
        (["--ensemble", "1"], "need an ensemble of 2 to 1,000 members, got 1;"),
        (["--ensemble", "1001"], "need an ensemble of 2 to 1,000 members, got 1,001;"),
        (["--ensemble", "3", "--retrain"], "an ensemble is made of kept weights"),
    ):
        assert cli.main(["export", "several", *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
