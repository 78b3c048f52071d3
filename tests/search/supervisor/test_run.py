"""The supervisor: what it says of a study that cannot go on."""

import math
import time
from pathlib import Path

import pytest
from toy import Toy

import search
from search.cli.tables import EpochPrinter, print_verdict
from search.errors import StudyHalted
from search.supervisor import run as service


class _Quiet:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def update(self, status):
        pass

    def say(self, line):
        pass


def test_a_halt_that_a_worker_is_the_first_to_tell_keeps_its_traceback(
    make_study, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "problems"))
    space = 'how = { choice = ["error"] }\nx = { float = [0, 1] }'
    study = make_study("toy:Failing", trials=20, space=space)
    logs = tmp_path / "logs"

    def last_worker_has_ended(*args, **options):
        """Between the supervisor's look at the study and its look at the workers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any("was halted" in log.read_text() for log in logs.glob("*.log")):
                time.sleep(1)  # the process ends
                return
            time.sleep(0.05)
        pytest.fail("no worker saw the halt")

    monkeypatch.setattr(service, "annotate", last_worker_has_ended)
    with pytest.raises(StudyHalted, match="a typo") as halted:
        service.run(study, workers=1, threads=1, logs=logs, progress=_Quiet())
    assert [note.count("Traceback") for note in halted.value.__notes__] == [1]


class Unreportable(Toy):
    """Reports figures that no JSON can hold, and ends as the parameter `how` says."""

    def run(self, run):
        for step in (1, 2):
            value = math.nan if run.params["how"] == "nan" and step == 2 else run.params["x"]
            run.report(step, value, loss=math.inf, ratio=math.nan, double=2 * step)
        if run.params["how"] == "error":
            raise ValueError("a typo")
        return value


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("error", "identical: 2 steps and the last value 0.5"),
        ("nan", "identical: 2 steps and the last value nan"),
        ("ends", "identical: 2 steps and the value 0.5"),
    ],
)
def test_a_trial_without_a_value_or_with_infinite_figures_is_reproduced(
    make_study, capsys, how, said
):
    space = f'how = {{ choice = ["{how}"] }}\nx = {{ choice = [0.5] }}'
    study = make_study(f"{__name__}:Unreportable", trials=1, space=space)
    search.work(study)
    print_verdict(service.reproduce(study, 0, EpochPrinter()))
    printed = capsys.readouterr().out
    assert said in printed
    assert "->" not in printed


def test_a_trial_that_failed_is_compared_by_its_steps(make_study, monkeypatch, capsys):
    space = 'how = { choice = ["error"] }\nx = { choice = [0.5] }'
    study = make_study(f"{__name__}:Unreportable", trials=1, space=space)
    search.work(study)

    def stops_early(self, run):
        run.report(1, 0.25, loss=math.inf, ratio=math.nan, double=2)
        return 0.25

    monkeypatch.setattr(type(study.problem), "run", stops_early)
    print_verdict(service.reproduce(study, 0))
    assert "different from step 1 on: stored last value 0.5" in capsys.readouterr().out
