"""One worker, or several in this process, of a study whose trials pause and go on."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
import toy
from optuna.trial import TrialState

import search
from search import Diverged
from search.attributes import Reason
from search.errors import NoResult
from search.ledger.attempt import Fresh
from search.ledger.by_hand import retry_failed
from search.ledger.decisions import Decisions
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.sampling.freeze_thaw import Decision, decision, grid
from search.sampling.freeze_thaw.decision import decide
from search.study import Study
from search.study.pausing import curves
from search.worker.claims import Claims
from search.worker.decide import Decider, Idle
from search.worker.worker import work

FIXED = "[fixed]\nsteps = 12\n"
FREEZE_THAW = f'[sampler]\nname = "freeze-thaw"\n{FIXED}'


def run(study, *, name="w", stop=None):
    return work(study, name=name, stop=stop or threading.Event())


def by_chance(space, fixed, known, *, seed, may_begin, last_step_of, **options):
    """Decides without the model, which takes its time: this is about carrying it out."""
    dice = random.Random(seed)
    paused = [curve for curve in known if curve.state == "paused"]
    if not paused and not may_begin:
        return None
    if may_begin and (not paused or dice.random() < 0.4):
        params = space.walk(lambda name, kind: dice.uniform(kind.low, kind.high), fixed)
        first = grid(last_step_of(params))[0]
        return Decision(lineage=None, params=params, until=first, horizon=first, random=True)
    curve = dice.choice(paused)
    until = min(step for step in grid(curve.last_step) if step > max(curve.values))
    return Decision(lineage=curve.lineage, until=until, horizon=until, random=True)


@pytest.fixture
def _by_chance(monkeypatch):
    monkeypatch.setattr(decision, "decide", by_chance)


chance = pytest.mark.usefixtures("_by_chance")


@pytest.fixture
def make(make_study):
    def make(*, steps=30, trials=10, extra=FREEZE_THAW, **options) -> Study:
        return make_study(
            "toy:Pausing", trials=trials, budget=f"steps = {steps}", extra=extra, **options
        )

    return make


def check(study: Study) -> None:
    """Each lineage that began has ended once, and each curve is an uninterrupted one."""
    counts = study.ledger.counts()
    assert (counts.running, counts.paused, counts.done) == (0, 0, counts.begun)
    trials = study.trials
    assert all(trial.state.is_finished() for trial in trials)
    ended = [t for t in trials if t.user_attrs.get("reason") != "lost"]
    assert Counter(t.user_attrs["lineage"] for t in ended) == Counter(range(counts.begun))
    for trial in ended:
        steps = list(trial.intermediate_values.values())
        seed = study.spec.trial_seed(trial.user_attrs["lineage"])
        assert steps == toy.whole_curve(seed, trial.params["x"], len(steps))
        assert trial.user_attrs["curves"]["step"] == list(range(1, len(steps) + 1))
        whole = len(steps) == study.params(trial)["steps"]
        assert trial.state is (TrialState.COMPLETE if whole else TrialState.PRUNED)
        assert trial.user_attrs.get("reason") == (None if whole else "out-of-budget")
        assert trial.value == steps[-1]


@pytest.mark.slow
@chance
def test_trials_pause_and_go_on_until_the_budget_is_used_up(make, storage_url, tmp_path):
    study = make(storage=storage_url)
    assert run(study)
    check(study)
    # A leg of a trial, once begun, is carried to its pause.
    assert 30 <= study.ledger.steps() < 30 + 12
    attempts = Counter(attempt.how for attempt in study.ledger.attempts())
    assert attempts["paused"] > 0
    lengths = sorted(len(trial.intermediate_values) for trial in study.trials)
    assert lengths[0] < lengths[-1]
    assert run(study)  # a study that is over stays as it is
    assert Counter(attempt.how for attempt in study.ledger.attempts()) == attempts
    kept = [n for n in range(10) if list(tmp_path.rglob(f"{n:06d}.*.checkpoint"))]
    complete = [t.user_attrs["lineage"] for t in study.trials if t.state is TrialState.COMPLETE]
    assert set(kept) <= set(complete)


@pytest.mark.slow
def test_every_decision_can_be_made_again_from_what_is_stored(make, monkeypatch):
    study = make(steps=24, trials=6)
    asked = []

    def remember(space, fixed, known, **options):
        asked.append((known, options))
        return decide(space, fixed, known, **options)

    monkeypatch.setattr(decision, "decide", remember)
    run(study)
    made = sorted(
        (one for trial in study.trials for one in trial.user_attrs["decisions"]),
        key=lambda one: one["number"],
    )
    assert [one["number"] for one in made] == list(range(len(made)))
    assert Decisions(study.ledger).count() == len(made)
    reached = {trial.user_attrs["lineage"]: trial for trial in study.trials}
    carried_out = {options["seed"]: (known, options) for known, options in asked}
    for one in made:
        known, options = carried_out[study.spec.decision_seed(one["number"])]
        for curve in known:  # what was known then is the beginning of what is stored now
            trial = reached[curve.lineage]
            stored = list(trial.intermediate_values.items())[: len(curve.values)]
            assert dict(stored) == curve.values
            assert curve.params == trial.params
        again = decide(study.spec.space, study.spec.fixed, known, **options)
        assert again is not None
        recorded = {key: getattr(again, key) for key in one if key != "number"}
        assert recorded == {key: value for key, value in one.items() if key != "number"}


@pytest.mark.slow
def test_the_end_of_the_budget_completes_a_trial(make):
    study = make(steps=40, trials=20)
    run(study)
    check(study)
    finished = [t for t in study.trials if t.user_attrs["decisions"][-1]["finishes"]]
    assert finished
    for trial in finished:
        assert trial.state is TrialState.COMPLETE
        assert trial.user_attrs["decisions"][-1]["until"] == 12


SHORT = f'{FREEZE_THAW}[[trials]]\nname = "short"\nparams = {{ x = 0.5, steps = 1 }}\n'


def test_a_search_ends_when_nothing_more_can_be_completed(make):
    """Eight steps are left after the named trial's one, and all others take twelve."""
    study = make(extra=SHORT, steps=9)
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


def test_what_runs_is_waited_for_before_a_search_ends(make, monkeypatch):
    study = make(extra=SHORT)
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
def test_an_amendment_voids_a_decision_and_the_next_one_knows_it(make, monkeypatch, elsewhere):
    study = make(steps=30)
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
def test_an_amendment_keeps_a_search_from_ending_early(make, monkeypatch, elsewhere):
    study = make(extra=SHORT, steps=9)
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
def test_steps_that_come_free_keep_a_search_from_ending_early(make, monkeypatch, elsewhere):
    study = make(extra=SHORT, steps=20)
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


def test_an_extension_keeps_paused_trials_from_ending(make, monkeypatch, elsewhere):
    study = make(steps=3, trials=3)
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


def test_what_is_paused_outside_an_amended_space_ends(make):
    study = make(steps=500, trials=3)
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


def test_failed_trials_that_run_again_let_a_search_go_on_that_ended_early(make):
    study = make(extra=SHORT, steps=14, trials=5)
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


def test_the_search_completes_a_trial_beside_a_complete_control(make):
    study = make(extra=f"{FREEZE_THAW}[control]\ntrials = 1\n", steps=16, trials=4)
    run(study)
    complete = [t for t in study.trials if t.state is TrialState.COMPLETE]
    assert {t.user_attrs.get("arm") for t in complete} == {"control", None}


def test_a_problem_that_lets_no_pause_pass_pauses_all_the_same(make, monkeypatch):
    original = toy.Pausing.run

    def swallowing(self, run):
        try:
            return original(self, run)
        except search.TrialStopped:
            return None

    monkeypatch.setattr(toy.Pausing, "run", swallowing)
    study = make()
    assert run(study)
    check(study)


@pytest.mark.slow
@chance
@pytest.mark.parametrize("hours", [True, False])
def test_a_budget_of_hours_weighs_what_a_step_takes(make_study, hours):
    budget = "steps = 20" + ("\nhours = 1" if hours else "")
    study = make_study("toy:Pausing", trials=6, budget=budget, extra=FREEZE_THAW)
    run(study)
    check(study)
    assert any(attempt.how == "paused" for attempt in study.ledger.attempts())
    for trial in study.trials:
        seconds = trial.user_attrs.get("step_seconds")
        assert (None if seconds is None else len(seconds)) == (
            len(trial.intermediate_values) if hours else None
        )
    trials = {trial.number: trial for trial in study.trials}
    for curve in curves(study.spec, study.ledger.rows(begun=True), trials):
        assert (curve.seconds_per_step is not None) == hours


@pytest.mark.slow
@chance
def test_the_same_seed_makes_the_same_study(make, tmp_path):
    studies = [make(storage=f"sqlite:///{tmp_path}/{n}.db") for n in (1, 2)]
    for study in studies:
        run(study)
    first, second = ([(t.params, t.intermediate_values) for t in s.trials] for s in studies)
    assert first == second


@pytest.mark.slow
@chance
def test_several_workers_make_one_decision_at_a_time(make, storage_url):
    study = make(storage=storage_url)
    others = [search.open("toy", storage=study.storage.address) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(run, other, name=f"w{n}") for n, other in enumerate(others)]
        assert all(end.result() for end in ends)
    check(study)
    assert 30 <= study.ledger.steps() < 30 + 3 * 12
    made = [one for trial in study.trials for one in trial.user_attrs["decisions"]]
    assert sorted(one["number"] for one in made) == list(range(len(made)))
    assert len({t.params["x"] for t in study.trials}) == len(study.trials)
    for other in others:
        other.storage.close()


@pytest.mark.slow
@chance
def test_named_trials_go_first_and_compete_and_the_control_runs_through(make):
    extra = FREEZE_THAW + (
        '[control]\ntrials = 3\n[[trials]]\nname = "a"\nparams = { x = 0.25 }\n'
        '[[trials]]\nname = "short"\nparams = { x = 0.5, steps = 1 }\n'
    )
    study = make(extra=extra, trials=8, steps=70)
    run(study)
    check(study)
    first, second, *others = study.trials
    assert [t.user_attrs.get("name") for t in (first, second)] == ["a", "short"]
    assert first.params == {"x": 0.25}
    assert (second.state, len(second.intermediate_values)) == (TrialState.COMPLETE, 1)
    control = [t for t in others if t.user_attrs.get("arm") == "control"]
    assert control
    assert all(t.state is TrialState.COMPLETE and "decisions" not in t.user_attrs for t in control)
    assert len({t.params["x"] for t in control}) == len(control)
    rows = {row.lineage: row for row in study.ledger.rows()}
    known = curves(study.spec, list(rows.values()), {t.number: t for t in study.trials})
    hidden = {t.user_attrs["lineage"] for t in control}
    assert {curve.lineage for curve in known} == {*range(len(study.trials))} - hidden


@pytest.mark.slow
@chance
def test_an_audit_lets_a_share_of_what_is_paused_run_on(make):
    study = make(extra=f"{FREEZE_THAW}[audit]\nfraction = 0.5\n", steps=40)
    run(study)
    check(study)
    audited = [t for t in study.trials if "audit" in t.user_attrs]
    assert audited
    for trial in audited:
        mark = trial.user_attrs["audit"]
        assert trial.state is TrialState.COMPLETE
        assert 1 <= mark["step"] < 12
        assert mark["value"] == trial.intermediate_values[mark["step"]]
    pruned = [t for t in study.trials if t.state is TrialState.PRUNED]
    assert not any(study.spec.is_audited(t.user_attrs["lineage"]) for t in pruned)
    report = StudyReport.of(study, lambda params: params["steps"])
    searched, *_, judged = report.summary()
    assert "proposed by freeze-thaw, which paused trials and let the promising" in searched
    assert judged.startswith("Freeze-thaw: ")
    assert make_sections(report)


@pytest.mark.slow
@chance
@pytest.mark.parametrize("how", ["stopped", "lost"])
def test_who_follows_goes_on_to_the_same_step(make, monkeypatch, how):
    study = make(extra=FREEZE_THAW.replace("12", "12\npause = 0.05"))
    stop = threading.Event()
    original = toy.Toy.report

    def interrupt(self, run, step, state):
        if step == 3 and not stop.is_set():
            stop.set()
            if how == "lost":
                study.ledger.release_worker("w")
        original(self, run, step, state)

    monkeypatch.setattr(toy.Toy, "report", interrupt)
    run(study, stop=stop)
    (row,) = [row for row in study.ledger.rows() if row.trial is not None
              and not row.paused and not row.done]  # fmt: skip
    assert row.pause_at is None or row.pause_at >= 3
    made = Decisions(study.ledger).count()
    claim = study.ledger.claim("next")
    assert claim is not None
    assert (claim.lease.lineage, claim.pause_at) == (row.lineage, row.pause_at)
    assert Decisions(study.ledger).count() == made
    study.ledger.release(claim)
    run(study)
    check(study)
    lost = [t for t in study.trials if t.user_attrs.get("reason") == "lost"]
    assert len(lost) == (how == "lost")


def test_a_worker_that_died_before_it_paused_is_followed_by_the_pause(make, monkeypatch):
    """The report of the last step of a leg was stored, the pause was not."""
    study = make()
    monkeypatch.setattr(study.ledger, "pause", lambda claim: study.ledger.release_worker("w"))
    claimed = []
    idle = Idle(decision=0, amendment=0, over=None)
    monkeypatch.setattr(Decider, "decide", lambda self, asks=None: claimed.append(asks) or idle)
    claim = study.ledger.claim("w", lambda n: Fresh(
        user_attrs={"last_step": 12}, pause_at=2))  # fmt: skip
    study.ledger.release(claim)
    stop = threading.Event()
    threading.Timer(1.5, stop.set).start()
    run(study, stop=stop)
    assert {len(trial.intermediate_values) for trial in study.trials} == {2}


@chance
def test_an_error_of_a_decision_is_not_the_trials(make, monkeypatch):
    study = make()

    def fail(self, asks=None):
        raise ZeroDivisionError

    claim = study.ledger.claim("w", lambda _: Fresh(user_attrs={"last_step": 12}, pause_at=2))
    study.ledger.release(claim)
    with monkeypatch.context() as broken:
        broken.setattr(Decider, "decide", fail)
        with pytest.raises(ZeroDivisionError):
            run(study)
    (trial,) = study.trials
    assert (trial.state, len(trial.intermediate_values)) == (TrialState.RUNNING, 2)
    assert [attempt.how for attempt in study.ledger.attempts()] == ["stopped", "stopped"]
    run(study)
    check(study)


@chance
def test_a_budget_too_small_for_any_trial_ends_with_one_complete(make):
    study = make(steps=3)
    run(study)
    check(study)
    finished = study.best
    begun = {t.number: t.intermediate_values[min(t.intermediate_values)] for t in study.trials}
    assert len(begun) == 3  # each was paused after its first step
    assert begun[finished.number] == max(begun.values())
    assert [t.number for t in study.trials if t.state is TrialState.COMPLETE] == [finished.number]


@chance
def test_a_budget_used_up_without_a_result_says_so(make, monkeypatch):
    study = make(steps=3)
    monkeypatch.setattr(toy.Toy, "report", diverging)
    run(study)
    with pytest.raises(NoResult, match="budget is used up: add steps with `extend toy --steps"):
        _ = study.best


def diverging(self, run, step, state):
    """Reports one step, and has no value to report after it."""
    if step > 1:
        raise Diverged("nan")
    run.report(step, toy.value_of(state), double=2 * toy.value_of(state))


@pytest.mark.slow
@chance
def test_an_extended_study_begins_so_many_more(make) -> None:
    study = make(steps=1_000, trials=3)
    run(study)
    study.extend(trials=2)
    run(study)
    check(study)
    assert study.ledger.counts().begun == 5
    amended = [t.user_attrs["lineage"] for t in study.trials if "amendment" in t.user_attrs]
    assert sorted(amended) == [3, 4]


def test_the_limit_that_ends_a_search_is_named_where_there_are_two(make_study):
    """Hours are left of the time, and eight steps of the steps."""
    study = make_study("toy:Pausing", trials=10, budget="steps = 9\nhours = 10", extra=SHORT)
    assert run(study)
    end = study.ledger.standing().ended_by
    assert end.rule == "steps"
    assert end.text == (
        "nothing more can be completed in the 10:00:00 left of 10 hours and the 8 steps left of 9"
    )


def test_what_was_let_go_on_keeps_its_paused_trials(make, monkeypatch):
    """A failed trial runs again just before the paused ones end."""
    study = make(steps=3, trials=3)
    claims = Claims(study, "w")
    for _ in range(2):
        claim = claims.next(threading.Event())
        study.storage.optuna.set_trial_intermediate_value(claim.trial._trial_id, 1, 0.5)
        study.ledger.pause(claim)
    claims.end_paused(by_rule=True)  # no rule holds any more
    assert study.ledger.counts().paused == 2
    claims.end_paused(by_rule=False)
    assert study.ledger.counts().paused == 0
