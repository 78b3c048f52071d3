"""Which problems are imported and called, and the line for each that is not."""

import sys
from pathlib import Path

import pytest
from toy import Toy, toy_spec

import search
from search.errors import ProblemError
from search.spec import parse_spec
from search.study import load_problem, open_study, validate


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


CARELESS = """
class Careless:
    returns = {returns}
    def __init__(self, settings): pass
    def check(self, params): pass
    def fingerprint(self): return {fingerprint}
    def environment(self): return {environment}
    def run(self, trial): return 0.5
    def last_step(self, params): return {last_step}
"""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fingerprint": "{'n': 5}"}, "fingerprint must return a mapping of strings to strings"),
        ({"fingerprint": "{1: 'a'}"}, "fingerprint must return a mapping of strings to strings"),
        ({"fingerprint": "1 / 0"}, "failed when it was asked for its fingerprint: ZeroDivision"),
        (
            {"returns": "'value'"},
            "returns must be a tuple of a metric and a direction, got 'value'",
        ),
        ({"returns": "('value',)"}, "returns must be a tuple of a metric and a direction, got"),
        ({"returns": "['value', 'maximize']"}, 'write returns = ."value", "maximize"'),
        ({"last_step": "0.5"}, "last_step must return a whole number >= 1, got 0.5"),
    ],
)
def test_what_a_problem_says_of_itself_is_checked_when_a_study_is_created(
    wrong, message, tmp_path, monkeypatch, sqlite_url
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "careless", raising=False)
    right = {"fingerprint": "{}", "environment": "{}", "last_step": "3", "returns": "None"}
    (tmp_path / "careless.py").write_text(CARELESS.format(**right | wrong))
    text = toy_spec(
        "careless:Careless", budget="steps = 9", extra='[sampler]\nname = "freeze-thaw"\n'
    )
    with pytest.raises(ProblemError, match=message) as caught:
        search.create(text, storage=sqlite_url)
    assert "\n" not in str(caught.value)


def test_what_a_problem_says_later_is_checked_as_well(make_study, monkeypatch, sqlite_url):
    study = make_study(trials=3)
    monkeypatch.setattr(Toy, "check", lambda self, params: params["odd"])
    with pytest.raises(
        ProblemError, match="failed when it was asked to check parameters: KeyError"
    ):
        study.add({"x": 0.5})
    for wrong in (None, {"version": 3}):
        monkeypatch.setattr(Toy, "environment", lambda self, wrong=wrong: wrong)
        with pytest.raises(ProblemError, match="environment must return a mapping of strings"):
            search.work(study)
    monkeypatch.setattr(Toy, "fingerprint", lambda self: {"data": 6})
    with pytest.raises(ProblemError, match="fingerprint must return a mapping of strings"):
        _ = open_study("toy", study.storage).problem
