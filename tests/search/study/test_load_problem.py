"""Which problems are imported and called, and the line for each that is not."""

import sys
from pathlib import Path

import pytest
from toy import toy_spec

from search.errors import ProblemError
from search.spec import parse_spec
from search.study import load_problem, validate


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """An empty current directory, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def spec_of(problem: str):
    return parse_spec(toy_spec(problem), where="here")


@pytest.mark.parametrize(
    "problem",
    ["subprocess:Popen", "os:system", "json:decoder", "search.problem:Cost", "builtins:exec"],
)
def test_nothing_but_a_class_of_a_problem_is_called(problem):
    with pytest.raises(ProblemError, match="must be a class with the methods check, fingerprint"):
        load_problem(spec_of(problem))


def test_a_program_named_as_a_problem_does_not_run(in_folder: Path):
    text = toy_spec("subprocess:Popen") + "[data]\ntouch = 1\nran = 2\n"
    with pytest.raises(ProblemError, match="it has no check, fingerprint"):
        validate(parse_spec(text, where="here"))
    assert list(in_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import sys; sys.exit()", "SystemExit"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class E(BaseException):\n  def __str__(self): raise E\nraise E", "E: its message"),
        ("raise ValueError('a' * 10**6)", "ValueError: aaa"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named"),
        ("def", "SyntaxError"),
    ],
)
def test_a_module_that_ends_the_process_or_fails_is_one_line(in_folder, code, line):
    (in_folder / "failing.py").write_text(code)
    with pytest.raises(ProblemError, match=line) as caught:
        load_problem(spec_of("failing:Problem"))
    message = str(caught.value)
    assert message.startswith("cannot import the problem 'failing:Problem': ")
    assert "\n" not in message and len(message) < 1500


METHODS = """
    def check(self, params): {check}
    def fingerprint(self): return {{}}
    def environment(self): return {{}}
    def run(self, trial): return 0.0
"""


@pytest.mark.parametrize(
    ("init", "check", "purpose"),
    [("raise SystemExit", "pass", "built"), ("pass", "raise SystemExit", "asked to check")],
)
def test_a_problem_that_ends_the_process_is_one_line(in_folder, init, check, purpose):
    body = f"class P:\n    def __init__(self, data): {init}\n{METHODS.format(check=check)}"
    (in_folder / "leaving.py").write_text(body)
    with pytest.raises(ProblemError, match=f"failed when it was {purpose}.*SystemExit"):
        validate(spec_of("leaving:P"))
