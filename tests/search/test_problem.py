"""The example in the documentation of a problem, run as it stands."""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import search
from search.problem import Problem, Reshuffling, Resumable, StaticMetrics


def example(of: type) -> str:
    return inspect.cleandoc(of.__doc__ or "").partition("\nExample:")[2]


def code_of_descent() -> str:
    text = example(Problem)
    return textwrap.dedent(text[text.index("import json") - 8 : text.index("In `descent.py`")])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("descent", None)


@pytest.mark.slow
def test_the_example_of_a_problem_is_a_study_that_ends() -> None:
    text = example(Problem)
    study_file = textwrap.dedent(text[text.index("problem = ") - 8 :])
    Path("descent.py").write_text(code_of_descent())
    Path("descent.toml").write_text(study_file)
    study = search.create("descent.toml", storage="sqlite:///studies.db")
    search.work(study)
    status = study.status()
    study.storage.close()
    assert (status.done, status.failed) == (True, 0)
    assert status.complete >= 1
    assert float(study.best.value or 1.0) < 1.0


def test_the_example_of_static_metrics_keeps_its_constraint() -> None:
    text = example(StaticMetrics)
    more = textwrap.dedent(text[text.index("class Priced") - 8 : text.index("No trial of this")])
    study_file = textwrap.dedent(text[text.index("problem = ") - 8 :])
    Path("descent.py").write_text(f"{code_of_descent()}\n\n{more}")
    Path("descent.toml").write_text(study_file)
    study = search.create("descent.toml", storage="sqlite:///studies.db")
    search.work(study)
    assert all(trial.params["steps"] <= 10 for trial in study.trials)
    assert study.status().complete + study.status().pruned == 8
    study.storage.close()


@pytest.mark.slow
def test_the_example_of_a_resumable_problem_is_paused_and_goes_on() -> None:
    text = example(Resumable)
    more = textwrap.dedent(
        text[text.index("class Resum") - 8 : text.index("With this study file its")]
    )
    study_file = textwrap.dedent(text[text.index("problem = ") - 8 :])
    Path("descent.py").write_text(f"{code_of_descent()}\n\n{more}")
    Path("descent.toml").write_text(study_file)
    study = search.create("descent.toml", storage="sqlite:///studies.db")
    assert study.sampler.name == "freeze-thaw"
    search.work(study)
    status = study.status()
    paused = [attempt for attempt in study.ledger.attempts() if attempt.how == "paused"]
    study.storage.close()
    assert (status.over, status.failed, list(status.paused)) == (True, 0, [])
    assert (status.steps or 0) < 24 + 10
    # It ends before where nothing more can be completed.
    assert status.out_of_steps or (status.ended_by and status.ended_by.rule == "steps")
    assert paused


@pytest.mark.slow
def test_the_example_of_a_reshuffling_problem_is_confirmed() -> None:
    text = example(Reshuffling)
    more = textwrap.dedent(text[text.index("import random") - 8 : text.index("After this search")])
    study_file = textwrap.dedent(text[text.index("problem = ") - 8 :])
    Path("descent.py").write_text(f"{code_of_descent()}\n\n{more}")
    Path("descent.toml").write_text(study_file)
    study = search.create("descent.toml", storage="sqlite:///studies.db")
    search.work(study)
    found = study.confirmation
    study.storage.close()
    assert found is not None and found.winner is not None
    assert (found.trials, found.repeats, len(found.candidates)) == (12, 4, 3)
