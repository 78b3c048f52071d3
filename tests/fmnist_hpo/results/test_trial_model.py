"""The weights of a trial that are exported: its own, those of its split, or those trained again."""

from pathlib import Path

import pytest
from optuna.trial import create_trial
from slices import write_slice

import search
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks import config, training
from fmnist_hpo.results.ensemble import export_ensemble
from fmnist_hpo.results.winner import export_trial
from search.study import Study

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "few"
metric = "val_accuracy"
direction = "maximize"
[data]
dir = "data"
[fixed]
family = "ann"
hidden_units = 8
layers = 1
epochs = 3
[[trials]]
name = "plain"
params = {}
repeat = 0
[[trials]]
name = "other split"
params = {}
repeat = 0
reshuffle = true
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    write_slice(tmp_path / "data", train=300, test=20)
    made = search.create(SPEC)
    search.work(made)
    return made


@pytest.mark.slow
def test_an_interrupted_retraining_is_not_taken_for_the_trials_own_weights(study: Study) -> None:
    own = export_trial(study, 0, Path("own"), refit=False)
    study.checkpoints.delete(0)

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_trial(study, 0, Path("again"), refit=False, train=True, say=interrupt)
    with pytest.raises(InputError, match="need the checkpoint of trial 0, found none"):
        export_trial(study, 0, Path("again"), refit=False)
    said: list[str] = []
    again = export_trial(study, 0, Path("again"), refit=False, train=True, say=said.append)
    assert "continuing after epoch 1 of 3" in said
    assert again.read("model.safetensors") == own.read("model.safetensors")
    assert (
        study.checkpoints.scoped("retrained").load(0, params=study.params(study.trial(0))) is None
    )


def test_a_checkpoint_of_an_earlier_step_is_not_trained_on_without_a_word(study: Study) -> None:
    params = study.params(study.trial(0))
    network, how = config.parse(params)
    (split,) = study.problem.splits  # type: ignore[attr-defined]
    data, seed = study.problem.data, study.spec.trial_seed(0)  # type: ignore[attr-defined]
    first = next(training.epochs(network, how, data, split, seed=seed))
    study.checkpoints.save(0, first.save(), attempt=2, params=params)  # then the disk was full
    with pytest.raises(InputError, match="need the checkpoint of trial 0, found none"):
        export_trial(study, 0, Path("bundle"), refit=False)


@pytest.mark.slow
def test_a_trial_on_another_split_is_exported_with_that_split(study: Study) -> None:
    first, other = (export_trial(study, n, Path(f"{n}"), refit=False) for n in (0, 1))
    assert other.metrics.validation is not None
    assert other.metrics.validation.accuracy == study.trial(1).value
    assert other.provenance.split_hash != first.provenance.split_hash
    with pytest.raises(InputError, match="need at least 2 complete trials .* found 1"):
        export_ensemble(study, 2, Path("together"), refit=False)


def test_a_trial_of_another_program_is_one_line(study: Study) -> None:
    study.optuna.add_trial(create_trial(value=1.0))
    with pytest.raises(InputError, match="trial 2 of study 'few' was made by another program"):
        export_trial(study, None, Path("bundle"), refit=False)
