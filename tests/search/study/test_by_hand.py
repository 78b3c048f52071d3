"""A trial is stopped, a study paused and resumed, whoever works on it."""

import json
import threading
from pathlib import Path

import pytest
from lost_answer import lost_in_commit
from optuna.trial import TrialState

from search import attributes
from search.attributes import Reason
from search.cli import app
from search.dashboard.private import stored_note
from search.errors import SearchError
from search.ledger.attempt import Fresh
from search.study import open_study
from search.supervisor.run import annotate
from search.worker.worker import work

FAST = "[workers]\nheartbeat_seconds = 0.1"


class Working:
    """A worker in a thread, held by a gate after its first step."""

    def __init__(self, study, gate: Path) -> None:
        self.study = open_study(study.name, study.storage)
        self.gate = gate
        self.stop = threading.Event()
        self.over = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.over = work(self.study, name="w", stop=self.stop)

    def __enter__(self) -> "Working":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self._thread.join(30)

    def open_gate(self) -> None:
        self.gate.touch()

    def join(self) -> bool | None:
        self._thread.join(60)
        return self.over


@pytest.fixture
def gated(make_study, storage_url, tmp_path):
    """A study whose trials wait for a gate, on both databases, and its gate."""
    gate = tmp_path / "gate"
    data = f'{FAST}\n[data]\ngate = "{gate}"'
    return make_study("toy:Gated", trials=3, storage=storage_url, extra=data), gate


def until(holds):
    waiting = threading.Event()
    for _ in range(6000):
        if holds():
            return
        waiting.wait(0.01)
    raise TimeoutError


def reported(study):
    return study.trials and study.trials[-1].intermediate_values


@pytest.mark.slow
def test_a_running_trial_is_stopped_for_good_and_counts(gated):
    study, gate = gated
    with Working(study, gate) as working:
        until(lambda: reported(study))
        stopped = study.stop(0)
        assert (stopped.lineage, stopped.attempt, stopped.worker) == (0, 1, "w")
        until(lambda: len(study.trials) == 2)  # the worker noticed without a report
        working.open_gate()
        assert working.join()
    first = study.trials[0]
    assert first.state is TrialState.PRUNED
    assert first.user_attrs[attributes.REASON] == Reason.BY_HAND.value
    assert first.value == first.intermediate_values[1]
    assert [t.user_attrs[attributes.LINEAGE] for t in study.trials] == [0, 1, 2]
    assert [a.how for a in study.ledger.attempts()] == ["stopped-by-hand", "complete", "complete"]
    status = study.status()
    assert (status.ended, status.complete, status.pruned) == (3, 2, 1)
    assert not list(Path(study.checkpoints.address).rglob("000000.*.checkpoint"))
    with pytest.raises(SearchError, match=r"got trial 0 .* which has ended \(stopped-by-hand\)"):
        study.stop(0)
    with pytest.raises(SearchError, match="has no trial 7"):
        study.stop(7)


def test_a_released_and_a_paused_trial_are_stopped(make_study):
    study = make_study(trials=2)
    claims = [study.ledger.claim("w") for _ in range(2)]
    study.ledger.release(claims[0])
    study.ledger.pause(claims[1])
    with lost_in_commit(study.storage):
        assert study.stop(0).lineage == 0
    assert study.stop(1).worker is None
    assert study.status().done
    assert study.ledger.claim("w") is None
    assert [t.value for t in study.trials] == [None, None]
    assert [a.how for a in study.ledger.attempts()] == ["stopped", "paused"]


def test_a_lost_trial_is_not_stopped_and_the_one_that_repeats_it_is(make_study):
    study = make_study(trials=1)
    study.ledger.claim("w")
    study.ledger.release_worker("w")
    with pytest.raises(SearchError, match=r"ended \(lost\); stop the one that repeats it"):
        study.stop(0)
    study.ledger.claim("w")
    assert study.stop(1).lineage == 0
    assert study.status().done


@pytest.mark.slow
def test_a_paused_study_releases_its_trials_and_goes_on_with_them(gated):
    study, gate = gated
    with Working(study, gate) as working:
        until(lambda: reported(study))
        assert study.pause()
        assert not study.pause()
        until(lambda: not study.ledger.running())
        assert study.ledger.claim("another") is None
        status = study.status()
        assert (status.state, status.ended, status.remaining_seconds) == ("paused", 0, None)
        elapsed = study.ledger.elapsed()
        looks = [study.ledger.reap() for _ in range(3) if not threading.Event().wait(0.15)]
        assert looks == [0, 0, 0]
        assert study.ledger.elapsed() == elapsed  # hours of the budget do not run
        working.open_gate()
        assert study.resume()
        assert not study.resume()
        assert working.join()
    assert [t.number for t in study.trials] == [0, 1, 2]  # the released trial went on
    assert study.status().complete == 3
    hows = [(a.lineage, a.how) for a in study.ledger.attempts()]
    assert hows[:2] == [(0, "stopped"), (0, "complete")]


def test_a_finished_study_that_is_paused_is_over(make_study):
    study = make_study(trials=1)
    work(study, name="w", stop=threading.Event())
    study.pause()
    assert work(study, name="w", stop=threading.Event())
    assert study.status().state == "finished"


@pytest.mark.parametrize("number", [-1, 1, 2**31, 2**63, 10**30])
def test_a_number_that_no_trial_has_is_refused(make_study, storage_url, number):
    study = make_study(trials=1, storage=storage_url)
    with pytest.raises(SearchError, match=f"has no trial {number}"):
        study.stop(number)


def test_an_answer_that_is_lost_pauses_once(make_study):
    study = make_study(trials=1)
    with lost_in_commit(study.storage):
        assert study.pause()
    assert study.status().held_since is not None


@pytest.mark.slow
def test_the_commands(make_study, sqlite_url, capsys):
    def out(*argv, code=0):
        assert app.main([*argv, "--storage", sqlite_url]) == code
        return capsys.readouterr()

    study = make_study(trials=3)
    study.ledger.claim("worker-1")
    study.ledger.claim("worker-2")
    said = out("stop", "toy", "--trial", "0").out
    assert "trial 0 of study 'toy' was stopped and counts as pruned" in said
    assert "worker-1 has it and, if it lives, lets it go within 5 s" in said
    stopped = json.loads(out("stop", "toy", "--trial", "1", "--json").out)
    assert stopped == {"trial": 1, "lineage": 1, "worker": "worker-2"}
    assert "only a trial that runs or is paused" in out("stop", "toy", "--trial", "1", code=2).err
    said = out("pause", "toy").out
    assert f"`python -m search resume toy --storage {sqlite_url}` lets it go on" in said
    assert "was paused before" in out("pause", "toy").out
    assert json.loads(out("status", "toy", "--json").out)["paused_since"] is not None
    assert "paused since" in out("status", "toy").out
    refused = out("run", "toy", "--workers", "1", code=2).err
    assert (
        f"let it go on with `python -m search resume toy --storage {sqlite_url}` first" in refused
    )
    assert "it is paused, so no trial begins" in out("extend", "toy", "--trials", "+1").out
    assert json.loads(out("resume", "toy", "--json").out)["paused_since"] is None
    assert "is not paused" in out("resume", "toy").out


def test_a_study_that_is_over_lets_its_workers_go_though_it_is_paused(make_study):
    study = make_study("toy:Improving", trials=4, budget="target = 0.0", extra=FAST)
    work(study, name="w", stop=threading.Event())
    assert study.status().ended < 4
    study.pause()
    stop = threading.Event()
    threading.Timer(30, stop.set).start()
    assert work(study, name="w", stop=stop)


def test_a_released_trial_is_not_shown_as_running(make_study, sqlite_url, capsys):
    study = make_study(trials=2)
    study.ledger.release(study.ledger.claim("w"))
    assert study.resting == {0: "released"}
    assert list(study.trials_frame()["state"]) == ["released"]
    for argv in (["trials", "toy"], ["trials", "toy", "--csv"]):
        assert app.main([*argv, "--storage", sqlite_url]) == 0
        said = capsys.readouterr().out
        assert "released" in said and "running" not in said
    annotate(study)
    assert "1 released" in stored_note(study.optuna)
    assert app.main(["stop", "toy", "--trial", "0", "--storage", sqlite_url]) == 0
    assert "released" not in stored_note(study.optuna)  # although nobody runs the study


def test_a_paused_trial_that_was_stopped_names_no_worker_though_the_answer_was_lost(make_study):
    study = make_study("toy:Improving", trials=1)
    claim = study.ledger.claim("w", lambda _: Fresh(pause_at=1), origin={attributes.WORKER: "w"})
    study.ledger.pause(claim)
    with lost_in_commit(study.storage):
        stopped = study.stop(0)
    assert stopped.worker is None
