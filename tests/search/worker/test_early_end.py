"""When a search whose trials pause ends before its budget, and what keeps it from ending."""

import threading
from collections import Counter

import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from pausing_studies import FREEZE_THAW, SHORT, check, run

import search
from search.attributes import Reason
from search.cli import app
from search.ledger.by_hand import retry_failed
from search.sampling.freeze_thaw import decision
from search.worker.claims import Claims
from search.worker.decide import Decider, Idle

chance = pytest.mark.usefixtures("_by_chance")


@pytest.mark.slow
def test_a_search_ends_when_nothing_more_can_be_completed(make_pausing):
    """Eight steps are left after the named trial's one, and all others take twelve."""
    study = make_pausing(extra=SHORT, steps=9)
    assert run(study)
    check(study)
    status = study.status()
    assert (status.begun, status.complete) == (1, 1)
    assert (status.state, status.over) == ("out of steps", True)
    assert (status.ended_by.rule, status.ended_by.trial) == ("steps", 0)
    assert status.ended_by.text == "nothing more can be completed in the 8 steps left of 9"
    study.extend(steps=16)  # more of them let it go on
    assert not study.status().over
    run(study)
    check(study)
    assert study.status().complete > 1
    assert 13 <= study.ledger.steps() <= 25


def test_what_runs_is_waited_for_before_a_search_ends(make_pausing, monkeypatch):
    study = make_pausing(extra=SHORT)
    other = Claims(study, "other")
    short, whole = other.next(threading.Event()), other.next(threading.Event())
    study.ledger.end(short, TrialState.COMPLETE, [0.5])
    monkeypatch.setattr(decision, "decide", lambda *args, **options: None)
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    assert not run(study, stop=stop)
    assert study.ledger.standing().ended_by is None
    study.ledger.release(whole)  # interrupted: it goes on
    run(study)
    assert study.trials[1].state is TrialState.PRUNED  # at its pause
    end = study.ledger.standing().ended_by
    assert (end.rule, end.trial) == ("steps", 0)
    assert study.status().over


def meanwhile(monkeypatch, act, *, made=object):
    """Have something happen once, after a decision was made and before it is carried out.

    Returns:
        What it returned; empty while it has not happened.
    """
    original, happened = Decider.decide, []

    def decide_and_act(self, asks=None):
        decided = original(self, asks)
        if not happened and isinstance(decided, made):
            happened.append(act())
        return decided

    monkeypatch.setattr(Decider, "decide", decide_and_act)
    return happened


@pytest.fixture
def elsewhere(make_study):
    """Opens a study once more, as another process does."""
    opened = []

    def open_again(study):
        opened.append(search.open("toy", storage=study.storage.address))
        return opened[-1]

    yield open_again
    for study in opened:
        study.storage.close()


@pytest.mark.slow
@chance
def test_an_amendment_voids_a_decision_but_not_the_next_one(make_pausing, monkeypatch, elsewhere):
    study = make_pausing(steps=30)
    other = elsewhere(study)
    happened = meanwhile(monkeypatch, lambda: other.extend(trials=1))
    stop = threading.Event()
    timer = threading.Timer(60.0, stop.set)
    timer.start()
    assert run(study, stop=stop)
    timer.cancel()
    assert happened
    check(study)


@pytest.mark.slow
def test_an_amendment_keeps_a_search_from_ending_early(make_pausing, monkeypatch, elsewhere):
    study = make_pausing(extra=SHORT, steps=9)
    other = elsewhere(study)

    def amend():
        other.extend(steps=30)
        other.add({"x": 0.25})

    happened = meanwhile(monkeypatch, amend, made=Idle)
    assert run(study)
    assert happened
    check(study)
    assert 0.25 in [trial.params["x"] for trial in study.trials]
    assert study.ledger.steps() > 12


@pytest.mark.slow
def test_steps_that_come_free_keep_a_search_from_ending_early(make_pausing, monkeypatch, elsewhere):
    study = make_pausing(extra=SHORT, steps=20)
    claims = Claims(elsewhere(study), "other")
    short, whole = claims.next(threading.Event()), claims.next(threading.Event())
    study.ledger.end(short, TrialState.COMPLETE, [0.5], steps={1: 0.5})
    with study.storage.engine.begin() as connection:  # as a decision that completes it
        connection.execute(sa.text("UPDATE search_lineage SET pause_at = NULL WHERE lineage = 1"))
    happened = meanwhile(
        monkeypatch, lambda: study.ledger.end(whole, TrialState.PRUNED, None), made=Idle
    )
    assert run(study)
    assert happened
    assert study.ledger.steps() >= 13


@pytest.mark.slow
def test_an_extension_keeps_paused_trials_from_ending(make_pausing, monkeypatch, elsewhere):
    study = make_pausing(steps=3, trials=3)
    other, original = elsewhere(study), Claims.end_paused
    happened = []

    def end_paused(self, **options):
        if not happened:
            happened.append(other.extend(steps=30))
        original(self, **options)

    monkeypatch.setattr(Claims, "end_paused", end_paused)
    assert run(study)
    assert happened
    lengths = [len(trial.intermediate_values) for trial in study.trials]
    assert max(lengths) == 12
    assert study.ledger.steps() > 3 + 12


@pytest.mark.slow
def test_what_is_paused_outside_an_amended_space_ends(make_pausing):
    study = make_pausing(steps=500, trials=3)
    claims = Claims(study, "w")
    for _ in range(3):
        claim = claims.next(threading.Event())
        trial_id = claim.trial._trial_id
        study.storage.optuna.set_trial_intermediate_value(trial_id, 1, 0.5)
        study.storage.optuna.set_trial_user_attr(trial_id, "curves", {"step": [1]})
        study.ledger.pause(claim)
    study.amend(study.spec.present.replace("[0.0, 1.0]", "[5.0, 6.0]"))
    assert run(study)
    end = study.ledger.standing().ended_by
    assert (end.rule, end.trial) == ("trials", None)
    assert end.text == (
        "all 3 trials have begun, and the paused ones lie outside the amended space"
    )
    states = Counter(trial.state for trial in study.trials)
    assert states == {TrialState.COMPLETE: 1, TrialState.PRUNED: 2}  # a search has a result


def test_failed_trials_that_run_again_let_a_search_go_on_that_ended_early(make_pausing):
    study = make_pausing(extra=SHORT, steps=14, trials=5)
    claims = Claims(study, "w")
    short, failed = claims.next(threading.Event()), claims.next(threading.Event())
    study.ledger.end(short, TrialState.COMPLETE, [0.5], steps={1: 0.5})
    steps = dict.fromkeys(range(1, 7), 0.5)
    study.ledger.end(failed, TrialState.FAIL, reason=Reason.ERROR, steps=steps)
    assert run(study)
    assert study.ledger.standing().ended_by.rule == "steps"
    assert retry_failed(study.ledger) == 1
    assert study.ledger.standing().ended_by is None
    assert run(study)
    assert max(len(trial.intermediate_values) for trial in study.trials) == 12


def test_the_limit_that_ends_a_search_is_named_where_there_are_two(make_study):
    """Hours are left of the time, and eight steps of the steps."""
    study = make_study("toy:Pausing", trials=10, budget="steps = 9\nhours = 10", extra=SHORT)
    assert run(study)
    end = study.ledger.standing().ended_by
    assert end.rule == "steps"
    assert end.text == (
        "nothing more can be completed in the 10:00:00 left of 10 hours and the 8 steps left of 9"
    )


@pytest.mark.slow
def test_what_was_let_go_on_keeps_its_paused_trials(make_pausing):
    """A failed trial runs again just before the paused ones end."""
    study = make_pausing(steps=3, trials=3)
    claims = Claims(study, "w")
    for _ in range(2):
        claim = claims.next(threading.Event())
        study.storage.optuna.set_trial_intermediate_value(claim.trial._trial_id, 1, 0.5)
        study.ledger.pause(claim)
    claims.end_paused(by_rule=True)  # no rule holds any more
    assert study.ledger.counts().paused == 2
    claims.end_paused(by_rule=False)
    assert study.ledger.counts().paused == 0


def test_what_runs_is_waited_for_before_paused_trials_end(make_pausing):
    """The last trial runs when the budget is used up, and diverges: another one is completed."""
    study = make_pausing(steps=3, trials=3)
    claims = Claims(study, "other")
    for value in (0.25, 0.5, 0.75):
        claim = claims.next(threading.Event())
        study.storage.optuna.set_trial_intermediate_value(claim.trial._trial_id, 1, value)
        study.storage.optuna.set_trial_user_attr(claim.trial._trial_id, "curves", {"step": [1]})
        if value < 0.75:
            study.ledger.pause(claim)
    assert study.used_up()
    assert not claims.end_paused(by_rule=False)
    assert study.ledger.counts().paused == 2
    study.ledger.end(claim, TrialState.PRUNED, reason=Reason.DIVERGED)
    assert run(study)
    states = [trial.state.name for trial in study.trials]
    assert states == ["PRUNED", "COMPLETE", "PRUNED"]


def test_trials_that_are_added_after_an_early_end_may_not_be_completed(
    make_pausing, sqlite_url, capsys
):
    study = make_pausing(extra=SHORT, steps=9)
    run(study)

    def extend(*more):
        assert app.main(["extend", "toy", *more, "--storage", sqlite_url]) == 0
        return capsys.readouterr().out

    remark = "runs the new trials that can be completed in the 8 steps left of 9; add --steps +N"
    for _ in range(2):
        assert remark in extend("--trials", "+5")
    run(study)
    assert (study.status().begun, study.status().over) == (1, True)
    assert "in the 98 steps left of 99" in extend("--steps", "+90")


def test_the_steps_that_a_control_trial_will_take_are_spent(make_pausing, monkeypatch):
    """It runs without a pause; what another worker decides fits in what is left after it."""
    study = make_pausing(extra=f"{FREEZE_THAW}[control]\ntrials = 1\n", steps=30, trials=2)
    claims, seen = Claims(study, "other"), []
    control = next(n for n in range(2) if study.spec.is_control(n))
    original = decision.decide

    def decide(*args, left, **options):
        seen.append(left.steps)
        return original(*args, left=left, **options)

    monkeypatch.setattr(decision, "decide", decide)
    for lineage in range(2):
        claim = claims.next(threading.Event())
        if lineage == control:
            trial_id, x = claim.trial._trial_id, FloatDistribution(0.0, 1.0)
            study.storage.optuna.set_trial_param(trial_id, "x", 0.5, x)
            study.storage.optuna.set_trial_intermediate_value(trial_id, 1, 0.5)
        else:
            study.ledger.pause(claim)
    claims.next(threading.Event())
    assert seen[-1] == 30 - 12


@chance
def test_a_trial_of_another_program_does_not_count_and_is_left_alone(make_pausing):
    """It has the best value, and stands as running for good."""
    study = make_pausing(steps=6)
    foreign = study.optuna.ask({"x": FloatDistribution(0.0, 1.0)})
    foreign.report(0.999, 1)
    assert run(study)
    assert study.status().over
    ours = [t for t in study.trials if t.number != foreign.number]
    assert any(trial.state is TrialState.COMPLETE for trial in ours)
    assert study.trials[foreign.number].state is TrialState.RUNNING
