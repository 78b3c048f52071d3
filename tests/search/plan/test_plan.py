"""Plans of toy studies, probed in real processes."""

import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import toy
from toy import toy_spec

import search
from search.cli.app import main
from search.cli.plan_text import _range, print_plan
from search.errors import ProblemError, SearchError
from search.plan import measure
from search.plan.ask import cost_of, outline_of
from search.plan.measure import Probe, Probes
from search.plan.plan import Plan, Range, _forecast, first_points, make_plan
from search.problem import Cost, Outline
from search.spec import StudySpec, parse_spec
from search.study import validate
from search.supervisor.launchers.local import default_workers


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(toy.__file__).parent))


def plan(problem: str = "toy:Probed", workers: int = 1, **options: object) -> Plan:
    spec = parse_spec(toy_spec(problem, **options), where="here")  # type: ignore[arg-type]
    return make_plan(spec, validate(spec), workers=workers, threads=1, gpus=())


@pytest.mark.slow
def test_how_far_the_measurement_is_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measure, "TELL_SECONDS", 0.02)
    with caplog.at_level("INFO", logger="search"):
        plan(space="x = { choice = [0.0, 1.0] }", trials=6)
    told = [text for text in caplog.messages if text.startswith("measured ")]
    assert told[0] == "measured 0 of 2 configurations"
    assert set(told) <= {f"measured {n} of 2 configurations" for n in range(3)}


@pytest.mark.slow
def test_times_follow_from_the_probes_and_the_study_is_simulated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    planned = plan(space="x = { choice = [0.0, 1.0] }", trials=6)
    forecast = planned.forecast
    assert forecast is not None
    assert (forecast.trial_seconds.low, forecast.trial_seconds.high) == (4.5, 8.5)
    own = [0.5 + 4 * (1 + point["x"]) for point in first_points(planned.spec, range(6)).values()]
    # all six are known, so every simulation is the same
    total = forecast.probes.start_seconds + sum(own)
    assert forecast.study_seconds.low == forecast.study_seconds.high == pytest.approx(total)
    assert forecast.probes.peak_bytes > 50e6
    assert (planned.count.points, forecast.trials, forecast.saved) == (2, 6, 0.0)
    print_plan(planned)
    said = capsys.readouterr().out
    assert "2 points: 1 parameter\n" in said
    assert "0:04 to 0:08" in said
    assert "x is 1; such as x=1" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "failure"),
    [("memory", "tried to allocate 1 TB"), ("killed", "the process ended by SIGKILL")],
)
def test_what_does_not_fit_is_said(
    how: str, failure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan(trials=3, extra=f'[data]\ntoo_large = "{how}"')
    print_plan(planned)
    assert f"does not fit ({failure}): x=1\n" in capsys.readouterr().out
    assert planned.forecast is not None
    assert planned.forecast.trial_seconds.high < 8.5


@pytest.mark.slow
def test_a_process_that_dies_before_it_is_ready_is_named() -> None:
    with pytest.raises(
        SearchError,
        match=r"'toy:Starving' .* ended by SIGKILL before it was ready: it printed noth",
    ):
        plan("toy:Starving", trials=3)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_plan_that_is_ended_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "toy.toml").write_text(toy_spec("toy:Endless", trials=3))
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "plan", "toy.toml", "--workers", "2"],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: len(listed.read_text().split()) == 2)
    probes = listed.read_text().split()
    process.send_signal(number)
    process.wait(60)
    wait_for(lambda: not any(Path(f"/proc/{probe}/exe").exists() for probe in probes))
    assert list((tmp_path / "temporary").iterdir()) == []


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_without_a_probe_the_times_are_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    planned = plan("toy:Toy")
    print_plan(planned)
    printed = capsys.readouterr().out
    assert "not known: toy:Toy has no method `probe` to time a part of a trial" in printed
    assert "`run` estimates the time left" in printed
    assert planned.to_json()["forecast"] is None


@pytest.mark.slow
def test_what_a_pruner_saves_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(plan(trials=30, extra='[pruner]\nname = "successive-halving"\nmin_resource = 1'))
    assert "successive-halving: saves about " in capsys.readouterr().out
    print_plan(plan(extra='[pruner]\nname = "threshold"\nlower = 0.1'))
    assert "what it saves is not known" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "control"),
    [("random", ""), ("tpe", ""), ("grid", ""), ("tpe", "[control]\ntrials = 2\n")],
)
def test_the_first_points_are_those_that_the_study_runs(
    sampler: str, control: str, sqlite_url: str, tmp_path: Path
) -> None:
    numbers = "y = { float = [1e-3, 1.0], log = true, when = { kind = 1 } }\n"
    if sampler == "grid":
        numbers = "y = { choice = [1, 2, 3], when = { kind = 1 } }\n"
    text = toy_spec(
        trials=4,
        space="kind = { choice = [0, 1] }\nn = { int = [2, 2] }\nx = { choice = [0.5, 0.25] }\n"
        + numbers,
        extra=f'{control}[sampler]\nname = "{sampler}"\n[[trials]]\nname = "own"\n'
        "params = { kind = 0, n = 2, x = 0.5 }",
    )
    spec: StudySpec = parse_spec(text, where="here")
    study = search.create(text, storage=sqlite_url, checkpoints=str(tmp_path / "checkpoints"))
    search.work(study)
    assert [trial.params for trial in study.trials] == list(first_points(spec, range(4)).values())
    study.storage.close()


@pytest.mark.slow
def test_many_named_trials_do_not_stand_for_those_that_are_drawn() -> None:
    """Ten cheap ones have names, thirty are drawn, and these take longer."""
    named = "".join(f'[[trials]]\nname = "t{i}"\nparams = {{ x = 0.0 }}\n' for i in range(10))
    sampler = '[sampler]\nname = "random"\n'
    planned = plan(trials=40, space="x = { float = [0.0, 10.0] }", extra=sampler + named)
    forecast = planned.forecast
    assert forecast is not None
    drawn = first_points(planned.spec, range(10, 14)).values()
    mean = statistics.mean(0.5 + 4 * (1 + point["x"]) for point in drawn)
    expected = forecast.probes.start_seconds + 10 * 4.5 + 30 * mean
    assert forecast.study_seconds.middle == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_a_study_of_seconds_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    spec = parse_spec(
        toy_spec("toy:Probed").replace("trials = 6", "trials = 6\nhours = 1e-6"), where="here"
    )
    planned = make_plan(spec, validate(spec), workers=2, threads=1, gpus=())
    assert planned.forecast is not None
    assert planned.forecast.trials == 2  # each worker starts one
    print_plan(planned)
    assert "2 of 6 trials by then" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_assumed_of_a_sampler_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(plan(extra='[sampler]\nname = "random"'))
    assert "better of two" not in capsys.readouterr().out
    print_plan(plan(extra='[sampler]\nname = "gp"'))
    assert "if gp proposes the better of two random trials" in capsys.readouterr().out


@pytest.mark.slow
def test_more_workers_than_processors_take_longer() -> None:
    processors = default_workers(1, 0)
    planned = plan(workers=3 * processors, trials=3 * processors)
    assert planned.forecast is not None
    probes = planned.forecast.probes.probes
    assert [one.cost.step_seconds for one in probes if one.cost] == [
        pytest.approx(3 * (1 + one.params["x"])) for one in probes
    ]


@pytest.mark.parametrize(
    ("ends", "text"),
    [((10.0, 10.2, 10.4), "about 0:10"), ((5.0, 10.0, 15.0), "0:10 (0:05 to 0:15)")],
)
def test_a_range_without_a_width_is_one_time(ends, text):
    low, middle, high = ends
    assert _range(Range(low=low, middle=middle, high=high), "{middle} ({low} to {high})") == text


def test_only_what_keeps_the_constraints_is_planned_for(capsys: pytest.CaptureFixture[str]) -> None:
    planned = plan("toy:Sized", trials=6, extra="[constraints]\nsize = { max = 4 }")
    assert planned.feasible == pytest.approx(0.4, abs=0.15)
    print_plan(planned)
    said = capsys.readouterr().out
    assert "constraints size <= 4; " in said and " % of random configurations keep" in said


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        ("steps = 8", 8 * 2 / 2),
        ("steps = 100_000", 6 * 9 / 2),  # all six trials have come to their last step before
        ("hours = 10", 6 * 9 / 2),
        ("hours = 0.001", 3.6),
    ],
)
def test_a_budget_that_the_trials_cannot_use_up_is_no_forecast(budget, seconds):
    cost = Cost(steps=4, step_seconds=2.0, start_seconds=1.0)
    extra = '[sampler]\nname = "freeze-thaw"'
    spec = parse_spec(toy_spec("toy:Pausing", budget=budget, extra=extra), where="here")
    probes = Probes(
        probes=(Probe(params={"x": 0.5}, cost=cost, failure=None),), start_seconds=0, peak_bytes=0
    )
    forecast = _forecast(spec, {0: {"x": 0.5}}, probes, 2)
    assert forecast is not None
    assert forecast.study_seconds.middle == pytest.approx(seconds)


@pytest.mark.slow
@pytest.mark.process
def test_a_plan_of_what_is_infinite_is_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.toml").write_text(toy_spec("toy:Probed", extra="[fixed]\nlimit = inf"))
    assert main(["plan", "toy.toml", "--json", "--workers", "1"]) == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["forecast"]["probes"][0]["params"]["limit"] is None


@pytest.mark.parametrize("bad", ["None", "Outline(size=math.nan)", "Outline(size=1, remarks='x')",
                                 "1 / 0", "sys.exit(0)", "Outline(size='big')"])  # fmt: skip
def test_an_outline_that_is_none_is_one_line(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"Outline": Outline, "math": math, "sys": sys}
    monkeypatch.setattr(toy.Probed, "outline", lambda self, params: eval(bad, names))
    with pytest.raises(ProblemError, match="^the problem 'toy:Probed'.* outline .*; correct its"):
        plan(trials=3)


BAD_COSTS = (
    "None",
    "Cost(steps=4, step_seconds=math.nan, start_seconds=0)",
    "Cost(steps=0, step_seconds=1, start_seconds=0)",
    "Cost(steps=2.5, step_seconds=1, start_seconds=0)",
    "Cost(steps=4, step_seconds=1, start_seconds=-1)",
    "Cost(steps=4, step_seconds=1, start_seconds=0, share=0)",
    "1 / 0",
    "sys.exit(0)",
)


@pytest.mark.parametrize("bad", BAD_COSTS)
def test_a_cost_that_is_none_is_one_line(bad: str) -> None:
    class Bad(toy.Probed):
        def probe(self, params):
            return eval(bad, {"Cost": Cost, "math": math, "sys": sys})

    with pytest.raises(ProblemError, match="^the problem 'toy:Bad'.* prob.*; correct its code"):
        cost_of(Bad({}), "toy:Bad", {"x": 0.5})


def test_numbers_of_numpy_become_those_of_python() -> None:
    class Numpy(toy.Probed):
        def outline(self, params):
            return Outline(size=np.float32(2), remarks=[np.str_("a remark")])

        def probe(self, params):
            return Cost(steps=np.int64(4), step_seconds=np.float32(1), start_seconds=np.int8(0))

    assert outline_of(Numpy({}), "", {}) == Outline(size=2.0, remarks=("a remark",))
    cost = cost_of(Numpy({}), "", {})
    assert json.loads(json.dumps(vars(cost))) == {
        "steps": 4, "step_seconds": 1.0, "start_seconds": 0.0, "share": 1.0
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ("how", "said", "traceback"),
    [
        ("error", r"the problem 'toy:Probed' failed when it was asked to probe .*: a typo; ", True),
        ("none", r"the problem 'toy:Probed': probe must return a Cost .* got None; ", False),
        ("exit", r"the problem 'toy:Probed' .* ended with exit code 0 before it had mea", False),
        ("all", r"none of them fits here \(tried to allocate 1 TB\); ", False),
    ],
)
def test_what_a_probe_does_wrong_is_one_line(
    how: str, said: str, traceback: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.toml").write_text(toy_spec("toy:Probed", extra=f'[data]\nprobe = "{how}"'))
    assert main(["plan", "toy.toml", "--workers", "1"]) == 2
    *above, line = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{said}", line)
    assert ("Traceback (most recent call last):" in above) is traceback
