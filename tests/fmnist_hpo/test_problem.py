"""Networks as a problem: what a trial reports, and early stopping from search to refit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from slices import write_slice

from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.networks import training
from fmnist_hpo.networks.bundles.network import load_network
from fmnist_hpo.problem import FashionProblem
from search.errors import ProblemError
from search.problem import TrialStopped
from search.spec import read_spec

STUDIES = Path(__file__).parents[2] / "studies"

PATIENT: dict[str, Any] = {
    "family": "ann",
    "hidden_units": 16,
    "epochs": 30,
    "learning_rate": 0.02,
    "patience": 2,
}


class Trial:
    """A trial in memory; it asks to stop after some batches, where a number is given."""

    def __init__(self, params: dict[str, Any], stop_after: int | None = None) -> None:
        self.params, self.seed, self.wanted = params, 3, set[str]()
        self.batches, self.stop_after = 0, stop_after
        self.checkpoint: bytes | None = None
        self.curves: dict[str, list[float]] = {"val_accuracy": []}

    @property
    def should_stop(self) -> bool:
        self.batches += 1
        return self.batches == self.stop_after

    def load_checkpoint(self) -> bytes | None:
        return self.checkpoint

    def save_checkpoint(self, data: bytes) -> None:
        self.checkpoint = data

    def report(self, step: int, value: float, **curves: float) -> None:
        if step > len(self.curves["val_accuracy"]):
            self.curves["val_accuracy"].append(value)
        assert self.curves["val_accuracy"][step - 1] == value == curves["val_accuracy"]


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> FashionProblem:
    directory: Path = tmp_path_factory.mktemp("slice") / "data"
    write_slice(directory)
    return FashionProblem({"dir": str(directory), "tune_on": 600})


def test_patience_from_search_to_refit(problem: FashionProblem) -> None:
    trial = Trial(PATIENT)
    value = problem.run(trial)
    accuracies = trial.curves["val_accuracy"]
    best = accuracies.index(max(accuracies)) + 1
    assert value == max(accuracies)
    assert len(accuracies) == best + 2 < 30

    stopped = Trial(PATIENT, stop_after=20)
    with pytest.raises(TrialStopped):
        problem.run(stopped)
    assert problem.run(stopped) == value
    assert stopped.curves == trial.curves
    assert problem.run(stopped) == value  # a worker died after the last checkpoint

    def export(split: Any, checkpoint: bytes | None) -> Any:
        said: list[str] = []
        return problem.model(
            PATIENT, split, seed=3, curves=trial.curves, checkpoint=checkpoint,
            save=lambda data: None, say=said.append,
        )  # fmt: skip

    kept = export(problem.splits[0], trial.checkpoint)
    assert kept.config["epoch"] == {"kept": best, "trained": len(accuracies)}
    assert kept.files == export(problem.splits[0], None).files
    network = load_network(
        Bundle(path=Path("x"), files={**kept.files, "config.json": to_json(kept.config)})
    )
    weights = training.weights(trial.checkpoint or b"")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert len(kept.curves["val_accuracy"]) == len(accuracies)
    # On all images there is nothing to validate on: it trains as long as the best epoch did.
    assert export(problem.everything, None).config["epoch"] == {"kept": best, "trained": best}


def test_patience_needs_one_part_held_out() -> None:
    with pytest.raises(ProblemError, match="got patience=2 with 3 folds"):
        FashionProblem({}, folds=3).check(PATIENT)
    FashionProblem({}).check(PATIENT)
    with pytest.raises(ProblemError, match="need 1 <= patience <= 10000, got patience=0"):
        FashionProblem({}).check(PATIENT | {"patience": 0})


def test_the_environment_names_the_libraries_that_the_numbers_depend_on() -> None:
    assert {"numpy", "torch", "schedulefree"} <= FashionProblem({}).environment().keys()


def test_reports_need_as_many_batches(problem: FashionProblem) -> None:
    tenths = {"family": "ann", "report_every": 0.1}  # of 479 images that train
    problem.check(tenths | {"batch_size": 47})
    with pytest.raises(ProblemError, match="needs at least 10 batches in an epoch, got 9 of"):
        problem.check(tenths | {"batch_size": 48})
    folded = FashionProblem({"dir": str(problem.directory), "tune_on": 600}, folds=2)
    with pytest.raises(ProblemError, match="got 6 of batch_size=48 with 300 training images"):
        folded.check(tenths | {"batch_size": 48})


def test_a_check_does_not_ask_for_data_that_are_not_there(tmp_path: Path) -> None:
    params = {"family": "ann", "report_every": 0.1, "batch_size": 65_536}
    FashionProblem({"dir": str(tmp_path / "nowhere")}).check(params)


def test_a_curve_that_can_be_cut(problem: FashionProblem) -> None:
    params = {"family": "ann", "hidden_units": 16, "epochs": 3, "optimizer": "schedule-free"}
    params |= {"batch_size": 32, "batch_norm": True}
    assert problem.last_step(params) == 3
    quarters = params | {"report_every": 0.25}
    assert problem.last_step(quarters) == 12
    whole = Trial(quarters)
    value = problem.run(whole)
    assert len(whole.curves["val_accuracy"]) == 12
    stopped = Trial(quarters, stop_after=20)
    with pytest.raises(TrialStopped):
        problem.run(stopped)
    assert problem.run(stopped) == value
    assert stopped.curves == whole.curves
    # A trial with a lower limit is the beginning of the longer one.
    short = Trial(quarters | {"epochs": 1})
    assert problem.run(short) == whole.curves["val_accuracy"][3]
    assert short.curves["val_accuracy"] == whole.curves["val_accuracy"][:4]


@pytest.mark.parametrize(
    ("folds", "params", "reason"),
    [
        (None, {"schedule": "one-cycle"}, 'schedule = "one-cycle" lowers the learning rate'),
        (None, {"resize": 0.5, "head": "average"}, "resize = 0.5 grows the images"),
        (None, {"patience": 3}, "patience = 3 ends a training by itself"),
        (3, {}, "the steps of a cross-validation are folds"),
    ],
)
def test_curves_that_cannot_be_cut(folds: int | None, params: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProblemError, match=reason) as caught:
        FashionProblem({}, folds).last_step({"family": "cnn"} | params)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_bundle_of_schedule_free_has_the_weights_that_were_validated(
    problem: FashionProblem,
) -> None:
    params = {"family": "cnn", "channels": 4, "epochs": 2, "optimizer": "schedule-free"}
    params |= {"batch_norm": True, "report_every": 0.5}
    trial = Trial(params)
    problem.run(trial)
    model = problem.model(
        params, problem.splits[0], seed=3, curves=trial.curves,
        checkpoint=trial.checkpoint, save=lambda data: None, say=lambda line: None,
    )  # fmt: skip
    assert model.config["epoch"] == {"kept": 2, "trained": 2}
    network = load_network(
        Bundle(path=Path("x"), files={**model.files, "config.json": to_json(model.config)})
    )
    for name, tensor in training.weights(trial.checkpoint or b"").items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    said: list[str] = []
    refit = problem.model(
        params, problem.everything, seed=3, curves=trial.curves, checkpoint=None,
        save=lambda data: None, say=said.append,
    )  # fmt: skip
    assert refit.config["epoch"] == {"kept": 2, "trained": 2}
    assert [line.split(",")[0] for line in said] == [
        f"epoch {done}/2" for done in ("0.5", "1", "1.5", "2")
    ]


@pytest.mark.parametrize("name", ["ann", "cnn", "quick"])
def test_the_curves_of_the_neural_studies_can_be_cut(name: str) -> None:
    spec = read_spec(STUDIES / f"{name}.toml")
    problem = FashionProblem({})
    for point in [*spec.space.probes(spec.fixed), *(trial.params for trial in spec.named)]:
        params = {**spec.fixed, **point}
        problem.check(params)
        share = spec.fixed.get("report_every", 1.0)
        assert problem.last_step(params) == spec.fixed["epochs"] / share
    assert spec.sampler.name == "freeze-thaw"


def test_the_study_quick_begins_with_both_families() -> None:
    spec = read_spec(STUDIES / "quick.toml")
    points = [{**spec.fixed, **named.params} for named in spec.named]
    for point in points:
        FashionProblem({}).check(point)
    families = [point["family"] for point in points]
    assert set(families[:2]) == {"ann", "cnn"}
    assert min(families.count("ann"), families.count("cnn")) >= 2
    assert len(points) <= spec.trials


def test_sizes_are_known_in_advance_and_latency_is_measured_where_it_is_wanted(
    problem: FashionProblem,
) -> None:
    params = {"family": "ann", "layers": 1, "hidden_units": 16, "epochs": 1, "learning_rate": 0.02}
    size = problem.static_metrics(params)
    assert size["parameters"] == 784 * 16 + 16 + 16 * 10 + 10
    assert size["mflops"] == pytest.approx(2 * (784 * 16 + 16 * 10) / 1e6)
    assert size["model_mb"] >= 4 * size["parameters"] / 1e6
    accuracy = problem.run(Trial(params))
    trial = Trial(params)
    trial.wanted = {"latency_ms"}
    before = torch.random.get_rng_state()
    measured = problem.run(trial)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert isinstance(measured, dict)
    assert measured["val_accuracy"] == accuracy
    assert 0 < measured["latency_ms"] < 1000
    assert {"latency_ms"} == set(problem.measures)
