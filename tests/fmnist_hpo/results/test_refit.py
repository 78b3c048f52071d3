"""A refit trains the best configuration on all images, as `[refit]` says."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from markupsafe import escape
from slices import STUDY, write_slice

import search
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.networks import config, training
from fmnist_hpo.networks.bundles.network import load_network
from fmnist_hpo.results import places
from fmnist_hpo.results.ensemble import export_ensemble
from fmnist_hpo.results.winner import export_trial
from search.errors import ProblemError
from search.study import Study

SPEC = STUDY.replace("trials = 1", "trials = 2").replace(
    "epochs = 1", 'epochs = 2\noptimizer = "schedule-free"'
)
LONGER = {"epochs": 3, "optimizer": "adamw", "schedule": "one-cycle"}
REFIT = """
[refit]
epochs = 3
optimizer = "adamw"
schedule = "one-cycle"
"""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_slice(tmp_path / "data", train=300, test=100)


def worked(spec: str) -> Study:
    study = search.create(spec)
    search.work(study)
    return study


def weights_of(study: Study, params: dict[str, object]) -> dict[str, torch.Tensor]:
    """Those of a training on all images, from its own parameters and by no table."""
    problem, trial = study.problem, study.best
    result = training.train(
        *config.parse(params),
        problem.data,  # type: ignore[attr-defined]
        problem.everything,  # type: ignore[attr-defined]
        seed=study.spec.trial_seed(trial.number),
    )
    return dict(result.weights)


def same(bundle: Bundle, weights: dict[str, torch.Tensor]) -> bool:
    state = load_network(bundle).state_dict()
    return all(torch.equal(state[name], tensor) for name, tensor in weights.items())


def test_it_is_trained_with_other_parameters_than_the_trial() -> None:
    study = worked(SPEC + REFIT)
    params, said = study.params(study.best), list[str]()
    own = export_trial(study, None, Path("own"), refit=False)
    assert (own.provenance.overrides, own.config.fields.object("epoch").values["trained"]) == (
        {},
        2,
    )

    def break_off(line: str) -> None:
        said.append(line)
        if line.startswith("epoch 2/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_trial(study, None, Path("all"), refit=True, say=break_off)
    assert said[0].endswith("on all 300 images, epochs=3, optimizer=adamw, schedule=one-cycle")
    bundle = export_trial(study, None, Path("all"), refit=True, say=said.append)
    assert "continuing after epoch 2 of 3" in said
    assert same(bundle, weights_of(study, params | LONGER))
    made = bundle.provenance
    assert (made.params, made.overrides) == (params, LONGER)
    card = bundle.read("MODEL_CARD.md").decode()
    assert 'with epochs = 3, optimizer = "adamw", schedule = "one-cycle" in place of' in card

    together = export_ensemble(study, 2, Path("together"), refit=True)
    assert together.provenance.overrides == LONGER


def test_without_the_trials_weights_it_is_refused_or_these_are_trained_again(
    out: Callable[..., str],
) -> None:
    """They decide the temperature, and the measurement that is made once is bound to that."""
    study = worked(SPEC + REFIT)
    own = export_trial(study, None, Path("own"), refit=False)
    whole = export_trial(study, None, Path("all"), refit=True).config.readout
    assert whole.temperature == own.config.readout.temperature
    said = out("export", "slice", "--checkpoints", "elsewhere", code=2)
    assert "/elsewhere; name the place with --checkpoints" in said
    study.checkpoints.delete_all()
    assert "--retrain" in out("export", "slice", code=2)
    again, said = Path("runs/slice/bundle"), out("run", "slice")
    assert f"training trial {study.best.number} on its 240 images" in said
    assert "(measured once; trained on 300 images" in said
    assert Bundle.open(again).config.readout == whole
    assert not list(Path("runs/slice/checkpoints").rglob("*.checkpoint"))


def test_the_table_asks_for_the_refit_unless_the_user_does_not(out: Callable[..., str]) -> None:
    study = worked(SPEC + REFIT)
    said = out("run", "slice", "--no-refit")
    assert "on all 300 images" not in said and "is not refitted" not in said
    bundle = Bundle.open(places.bundle_path(study))
    assert not bundle.provenance.refit and bundle.provenance.overrides == {}
    assert "is not refitted" in out("run", "slice")  # it was measured, so it stays
    out("export", "slice", "--no-refit", "--out", "own")
    assert not Bundle.open(Path("own")).provenance.refit
    out("export", "slice", "--out", "all")
    assert Bundle.open(Path("all")).provenance.overrides == LONGER
    out("export", "slice", "--ensemble", "2", "--out", "together")
    assert not Bundle.open(Path("together")).provenance.refit


def test_a_changed_table_is_an_amendment_and_another_refit(
    out: Callable[..., str], tmp_path: Path
) -> None:
    study = worked(SPEC)
    best = study.best.number
    (tmp_path / "slice.toml").write_text(SPEC + REFIT)
    assert "amend" in out("run", "slice.toml", "--refit", code=2)
    said = out("amend", "slice", "slice.toml", "--yes")
    assert "refit.epochs added: 3" in said and "trains the best trials again" not in said
    study.refresh()
    assert study.status().done
    assert study.best.number == best
    said = out("run", "slice")  # with the table it need not be asked for
    assert "is finished: 2 of 2 trials ended" in said
    bundle = Bundle.open(places.bundle_path(study))
    assert same(bundle, weights_of(study, study.params(study.best) | LONGER))

    (tmp_path / "slice.toml").write_text(SPEC + REFIT.replace("epochs = 3", "epochs = 1"))
    out("amend", "slice", "slice.toml", "--yes")
    said = out("run", "slice", "--refit")  # the test set was measured, so the bundle stays
    assert "is not refitted as [refit] says now: `fmnist-hpo export slice --refit`" in said
    assert Bundle.open(places.bundle_path(study)).provenance.overrides == LONGER


def test_a_refit_has_no_patience_but_a_length_of_its_own(out: Callable[..., str]) -> None:
    patient = SPEC.replace("epochs = 2", "epochs = 30\npatience = 1\nreport_every = 0.5")
    study = worked(patient.replace("1e-3, 1e-2", "0.1, 0.2"))  # the best step comes soon
    curve = study.best.user_attrs["curves"]["val_accuracy"]
    best = curve.index(max(curve)) + 1
    assert best / 2 < 3
    text = patient.replace("1e-3, 1e-2", "0.1, 0.2")
    Path("slice.toml").write_text(f"{text}[refit]\nepochs = 30\n")
    out("amend", "slice", "slice.toml", "--yes")

    def break_off(line: str) -> None:
        if line.startswith("epoch 3/30"):
            raise KeyboardInterrupt

    study.refresh()
    with pytest.raises(KeyboardInterrupt):
        export_trial(study, None, Path("all"), refit=True, say=break_off)
    # Without the table a refit is as long as it took the trial to its best.
    Path("slice.toml").write_text(text)
    out("amend", "slice", "slice.toml", "--yes")
    study.refresh()
    short = export_trial(study, None, Path("all"), refit=True)
    assert short.config.fields.object("epoch").values["trained"] == best / 2

    Path("slice.toml").write_text(f"{text}[refit]\nepochs = 2\n")
    out("amend", "slice", "slice.toml", "--yes")
    study.refresh()
    longer = export_trial(study, None, Path("all"), refit=True)
    assert longer.config.fields.object("epoch").values["trained"] == 2
    assert "early stopping" not in longer.read("MODEL_CARD.md").decode()


def test_one_that_diverges_is_one_line(out: Callable[..., str]) -> None:
    worked(
        f'{SPEC}[refit]\nepochs = 30\noptimizer = "sgd"\nlearning_rate = 1000.0\nmomentum = 0.99\n'
    )
    said = out("run", "slice", "--refit", code=2)
    assert "is nan; use a smaller learning_rate in [refit], or another" in said


def test_it_is_told_wherever_the_model_is_shown(out: Callable[..., str]) -> None:
    study = worked(SPEC + REFIT)
    named = 'epochs = 3, optimizer = "adamw", schedule = "one-cycle"'
    assert f"trained on 300 images with {named}" in out("run", "slice", "--refit")
    said = out("reproduce", "slice")
    assert f"retrained on all 300 images with {named}; `fmnist-hpo export slice --refit` " in said
    out("report", "slice")
    page = Path("runs/slice/report/report.html").read_text()
    assert f"on all 300 training images, with {escape(named)} in place of the trial" in page
    study.storage.close()


def test_a_trial_of_another_family_is_refused_by_name(out: Callable[..., str]) -> None:
    study = worked(SPEC)
    space = SPEC[SPEC.index("[space]") :]
    other = SPEC[: SPEC.index("[fixed]")].replace("trials = 2", "trials = 3")
    other += f'[fixed]\nfamily = "cnn"\nchannels = 4\nepochs = 1\n{space}[refit]\nchannels = 2\n'
    Path("slice.toml").write_text(other)
    out("amend", "slice", "slice.toml", "--yes")
    said = out("export", "slice", "--trial", "0", "--refit", code=2)
    assert (
        "change [refit], which does not go with the parameters of trial 0: channels does not "
        in said
    )
    study.storage.close()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("epochs = 0", "need 1 <= epochs"),
        ("patience = 3", "patience is for trainings that are validated, got patience = 3"),
        ("report_every = 0.5", "report_every is for trainings that are validated"),
        ('schedule = "one-cycle"', 'optimizer "schedule-free" takes schedule "constant" only'),
        ("epoch = 3", "unknown parameter 'epoch'"),
        ("channels = 3", "channels does not apply to family 'ann'"),
    ],
)
def test_what_could_not_be_trained_is_refused_before_the_search(table: str, reason: str) -> None:
    with pytest.raises(ProblemError, match=r"^change \[refit\], which does not go") as caught:
        search.create(f"{SPEC}[refit]\n{table}\n")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_patience_asks_for_a_length_and_parts_of_an_epoch_have_no_meaning(
    out: Callable[..., str],
) -> None:
    patient = SPEC.replace("epochs = 2", "epochs = 30\npatience = 1")
    with pytest.raises(ProblemError, match="nothing to validate on; add epochs to .refit."):
        search.create(f"{patient}[refit]\nflip = true\n")
    parts = SPEC.replace("epochs = 2", "epochs = 2\nreport_every = 0.1\nbatch_size = 8")
    parts = parts.replace('dir = "data"', 'dir = "data"\ntune_on = 120')  # 96 of them train
    study = worked(f"{parts}[refit]\nbatch_size = 100\n")  # three batches an epoch, not ten
    said = out("export", "slice")
    assert "epoch 1/2" in said and "epoch 0.1/2" not in said
    assert Bundle.open(places.bundle_path(study)).provenance.overrides == {"batch_size": 100}
