"""One worker, or several in this process, of a study whose trials pause and go on."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import toy
from optuna.trial import TrialState
from pausing_studies import FREEZE_THAW, check, run

import search
from search import Diverged
from search.errors import NoResult
from search.ledger.attempt import Fresh
from search.ledger.decisions import Decisions
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.sampling.freeze_thaw import decision
from search.sampling.freeze_thaw.decision import decide
from search.study.pausing import curves
from search.worker.decide import Decider, Idle

chance = pytest.mark.usefixtures("_by_chance")


@pytest.mark.slow
@chance
def test_trials_pause_and_go_on_until_the_budget_is_used_up(make_pausing, storage_url, tmp_path):
    study = make_pausing(storage=storage_url)
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
def test_every_decision_can_be_made_again_from_what_is_stored(make_pausing, monkeypatch):
    study = make_pausing(steps=24, trials=6)
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
def test_the_end_of_the_budget_completes_a_trial(make_pausing, monkeypatch):
    # Its values are noise. With draws up to the end the favourite does not get there by itself.
    monkeypatch.setattr(decision, "AMPLE", 0.01)
    study = make_pausing(steps=40, trials=20)
    run(study)
    check(study)
    finished = [t for t in study.trials if t.user_attrs["decisions"][-1]["finishes"]]
    assert finished
    for trial in finished:
        assert trial.state is TrialState.COMPLETE
        assert trial.user_attrs["decisions"][-1]["until"] == 12


def test_the_search_completes_a_trial_beside_a_complete_control(make_pausing):
    study = make_pausing(extra=f"{FREEZE_THAW}[control]\ntrials = 1\n", steps=16, trials=4)
    run(study)
    complete = [t for t in study.trials if t.state is TrialState.COMPLETE]
    assert {t.user_attrs.get("arm") for t in complete} == {"control", None}


@pytest.mark.slow
def test_a_problem_that_lets_no_pause_pass_pauses_all_the_same(make_pausing, monkeypatch):
    original = toy.Pausing.run

    def swallowing(self, run):
        try:
            return original(self, run)
        except search.TrialStopped:
            return None

    monkeypatch.setattr(toy.Pausing, "run", swallowing)
    study = make_pausing()
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
def test_the_same_seed_makes_the_same_study(make_pausing, tmp_path):
    studies = [make_pausing(storage=f"sqlite:///{tmp_path}/{n}.db") for n in (1, 2)]
    for study in studies:
        run(study)
    first, second = ([(t.params, t.intermediate_values) for t in s.trials] for s in studies)
    assert first == second


@pytest.mark.slow
@chance
def test_several_workers_make_one_decision_at_a_time(make_pausing, storage_url):
    study = make_pausing(storage=storage_url)
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
def test_named_trials_go_first_and_compete_and_the_control_runs_through(make_pausing):
    extra = FREEZE_THAW + (
        '[control]\ntrials = 3\n[[trials]]\nname = "a"\nparams = { x = 0.25 }\n'
        '[[trials]]\nname = "short"\nparams = { x = 0.5, steps = 1 }\n'
    )
    study = make_pausing(extra=extra, trials=8, steps=70)
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
def test_an_audit_lets_a_share_of_what_is_paused_run_on(make_pausing):
    study = make_pausing(extra=f"{FREEZE_THAW}[audit]\nfraction = 0.5\n", steps=40)
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
def test_who_follows_goes_on_to_the_same_step(make_pausing, monkeypatch, how):
    study = make_pausing(extra=FREEZE_THAW.replace("12", "12\npause = 0.05"))
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


def test_a_worker_that_died_before_it_paused_is_followed_by_the_pause(make_pausing, monkeypatch):
    """The report of the last step of a leg was stored, the pause was not."""
    study = make_pausing()
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


@pytest.mark.slow
@chance
def test_an_error_of_a_decision_is_not_the_trials(make_pausing, monkeypatch):
    study = make_pausing()

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
def test_a_budget_too_small_for_any_trial_ends_with_one_complete(make_pausing):
    study = make_pausing(steps=3)
    run(study)
    check(study)
    finished = study.best
    begun = {t.number: t.intermediate_values[min(t.intermediate_values)] for t in study.trials}
    assert len(begun) == 3  # each was paused after its first step
    assert begun[finished.number] == max(begun.values())
    assert [t.number for t in study.trials if t.state is TrialState.COMPLETE] == [finished.number]


@chance
def test_a_budget_used_up_without_a_result_says_so(make_pausing, monkeypatch):
    study = make_pausing(steps=3)
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
def test_an_extended_study_begins_so_many_more(make_pausing) -> None:
    study = make_pausing(steps=1_000, trials=3)
    run(study)
    study.extend(trials=2)
    run(study)
    check(study)
    assert study.ledger.counts().begun == 5
    amended = [t.user_attrs["lineage"] for t in study.trials if "amendment" in t.user_attrs]
    assert sorted(amended) == [3, 4]
