"""A refit trains the best configuration on all images, as `[refit]` says."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from slices import write_slice

import search
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.networks import config, training
from fmnist_hpo.networks.bundles.network import load_network
from fmnist_hpo.results import places
from fmnist_hpo.results.ensemble import export_ensemble
from fmnist_hpo.results.winner import export_trial
from search.errors import ProblemError
from search.study import Study

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "slice"
metric = "val_accuracy"
direction = "maximize"
[budget]
trials = 2
[data]
dir = "data"
[fixed]
family = "ann"
layers = 1
hidden_units = 8
epochs = 2
optimizer = "schedule-free"
[space]
learning_rate = { float = [1e-3, 1e-2], log = true }
"""
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
    said = out("run", "slice", "--refit")
    assert "is finished: 2 of 2 trials ended" in said
    bundle = Bundle.open(places.bundle_path(study))
    assert same(bundle, weights_of(study, study.params(study.best) | LONGER))

    (tmp_path / "slice.toml").write_text(SPEC + REFIT.replace("epochs = 3", "epochs = 1"))
    out("amend", "slice", "slice.toml", "--yes")
    said = out("run", "slice", "--refit")  # the test set was measured, so the bundle stays
    assert "is not refitted as [refit] says now: `fmnist-hpo export slice --refit`" in said
    assert Bundle.open(places.bundle_path(study)).provenance.overrides == LONGER


def test_a_refit_that_is_not_trained_with_patience_has_its_own_length() -> None:
    patient = SPEC.replace("epochs = 2", "epochs = 30\npatience = 1")
    study = worked(patient + REFIT)
    bundle = export_trial(study, None, Path("all"), refit=True)
    assert bundle.config.fields.object("epoch").values == {"kept": 3, "trained": 3}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("epochs = 0", "need 1 <= epochs"),
        ('schedule = "one-cycle"', 'optimizer "schedule-free" takes schedule "constant" only'),
        ("epoch = 3", "unknown parameter 'epoch'"),
        ("channels = 3", "channels does not apply to family 'ann'"),
    ],
)
def test_what_could_not_be_trained_is_refused_before_the_search(table: str, reason: str) -> None:
    with pytest.raises(ProblemError, match=r"^\[refit\] with the parameters of") as caught:
        search.create(f"{SPEC}[refit]\n{table}\n")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
