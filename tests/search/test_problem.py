"""The example in the documentation of a problem, run as it stands."""

import inspect
import sys
import textwrap
from pathlib import Path

import pytest

import search
from search.problem import Problem


def test_the_example_of_a_problem_is_a_study_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = inspect.cleandoc(Problem.__doc__ or "").partition("\nExample:")[2]
    code = textwrap.dedent(text[text.index("import json") - 8 : text.index("In `descent.py`")])
    study_file = textwrap.dedent(text[text.index("problem = ") - 8 :])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("descent.py").write_text(code)
    Path("descent.toml").write_text(study_file)
    study = search.create("descent.toml", storage="sqlite:///studies.db")
    search.work(study)
    status = study.status()
    study.storage.close()
    assert (status.done, status.failed) == (True, 0)
    assert status.complete >= 1
    assert float(study.best.value or 1.0) < 1.0
