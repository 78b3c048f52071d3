"""What a report knows of a study: counts, costs, the comparison with the control."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from made_trials import ATTEMPTS, START, TRIALS, attempt, points, trial
from optuna.trial import TrialState

from search.report import facts
from search.report.control import compare
from search.report.study_report import StudyReport


def own(trial):
    return trial.params


def test_lineages_are_counted_once_by_how_they_ended():
    found = facts.endings(TRIALS, ATTEMPTS)
    assert found.by_word == {"complete": 4, "pruned": 1, "diverged": 1}
    assert found.total == 6
    assert (found.lost_attempts, found.stopped_attempts) == (1, 0)
    assert (found.control, found.audited) == (1, 1)


def test_a_lost_attempt_whose_lineage_waits_for_the_next_has_not_ended():
    lost = trial(7, TrialState.FAIL, [0.5], lineage=6, minutes=(11, 12), reason="lost")
    trials = [*TRIALS, lost]
    attempts = [*ATTEMPTS, attempt(7, "lost", lineage=6, minutes=(11, 12))]
    assert facts.endings(trials, attempts, {6}).by_word == facts.endings(TRIALS, ()).by_word
    assert facts.endings(trials, attempts, {6}).lost_attempts == 2
    assert facts.endings(trials, attempts).by_word["lost"] == 1  # not once more than `max_retries`
    assert facts.endings(TRIALS, ATTEMPTS, {0}).total == 6  # has ended since the ledger was read
    assert facts.compute(trials, own, lambda params: None, {6}).steps == 19


def test_a_report_asks_the_ledger_which_lineages_wait(make_study):
    study = make_study(trials=2, extra="[workers]\nmax_retries = 1")
    for ended in (0, 1):
        study.ledger.claim("dead")
        study.ledger.release_worker("dead")
        report = StudyReport.of(study, lambda params: None)
        assert facts.endings(report.trials, report.attempts, report.waiting).total == ended
        assert f"{ended} of 2 trials ended" in report.summary()[0]


def test_pruning_spared_the_steps_that_were_planned():
    told = facts.compute(TRIALS, lambda _: {"epochs": 4}, lambda params: params["epochs"])
    assert (told.steps, told.seconds) == (4 + 1 + 4 + 2 + 4 + 4, 190.0)
    assert (told.saved_steps, told.saved_seconds) == (3, 30.0)  # not of the diverged one
    assert told.saved_share == pytest.approx(30 / 220)
    assert not told.estimated
    guessed = facts.compute(TRIALS, own, lambda params: None)
    assert (guessed.saved_steps, guessed.estimated) == (3, True)


def test_the_seconds_of_a_fold_are_those_of_its_fit_and_its_score():
    folds = {"step": [1, 2, 3], "fit_seconds": [2.0, 3.0, 9.0], "score_seconds": [0.5, 0.25, 9.0]}
    broken_off = trial(0, TrialState.PRUNED, [0.5, 0.6], curves=folds)  # the third never reported
    assert facts.training_seconds(broken_off) == 5.75


def test_the_audit_tells_what_became_of_a_pruned_trial():
    (one,) = facts.audited(TRIALS)
    assert (one.number, one.step, one.value, one.final) == (6, 2, 0.5, 0.95)


def test_the_history_is_in_the_order_in_which_trials_ended():
    points = facts.history(TRIALS)
    assert [point.number for point in points] == [1, 0, 3, 4, 5, 6]
    assert [point.hours for point in points] == [m / 60 for m in (1, 4, 6, 7, 9, 11)]
    best = facts.running_best(points, "maximize")
    assert [(p.number, value) for p, value in best] == [(0, 0.8), (3, 0.9), (5, 0.9), (6, 0.95)]
    assert [v for _, v in facts.running_best(points, "minimize")] == [0.8, 0.8, 0.75, 0.75]
    pruned = facts.history(TRIALS, as_pruned=True)[-1]
    assert (pruned.value, pruned.complete, pruned.training_seconds) == (0.5, False, 20.0)


@pytest.mark.usefixtures("berlin")
def test_the_order_of_endings_is_right_in_the_night_in_which_the_clocks_are_put_back():
    """The second trial ends half an hour after the first; a clock shows half an hour less."""
    local = [
        datetime(2026, 10, 25, 2, 0),  # noqa: DTZ001 - as Optuna's times
        datetime(2026, 10, 25, 2, 45),  # noqa: DTZ001
        datetime(2026, 10, 25, 2, 15, fold=1),  # noqa: DTZ001
    ]
    first = trial(0, TrialState.COMPLETE, [0.5])
    second = trial(1, TrialState.COMPLETE, [0.6])
    first.datetime_start, first.datetime_complete = local[0], local[1]
    second.datetime_start, second.datetime_complete = local[1], local[2]
    points = facts.history([second, first])
    assert [(point.number, point.hours) for point in points] == [(0, 0.75), (1, 1.25)]


def test_a_retry_of_an_audited_trial_is_shown_as_the_pruned_one_it_would_have_been():
    mark = {"trial": 0, "step": 2, "value": 0.5}
    first = trial(0, TrialState.FAIL, [0.2, 0.5, 0.8], reason="lost", audit=mark)
    again = trial(1, TrialState.COMPLETE, [0.2, 0.5, 0.8, 0.95], lineage=0, audit=mark, retry_of=0)
    (point,) = facts.history([first, again], as_pruned=True)
    assert (point.value, point.complete, point.training_seconds) == (0.5, False, 20.0)
    (point,) = facts.history([first, again])
    assert (point.value, point.complete, point.training_seconds) == (0.95, True, 40.0)
    assert again.user_attrs["audit"] == mark


def test_the_control_is_compared_by_the_training_each_needed():
    control = points([0.5, 0.6, 0.55, 0.8], control=True)
    search = points([0.5, 0.85, 0.9], control=False)
    found = compare([*control, *search], "maximize")
    assert (found.value, found.control_seconds, found.search_seconds) == (0.8, 40.0, 20.0)
    assert found.ratio == 2.0
    # A resample's best is 0.5 .. 0.8; random search needs 10 to 40 s, the study 10 or 20 s.
    assert 0.5 <= found.low <= found.ratio <= found.high <= 4.0
    control = points([3.0, 2.0, 4.0], control=True)
    lower = compare([*control, *points([1.0], control=False)], "minimize")
    assert (lower.value, lower.ratio) == (2.0, 2.0)


def test_a_study_that_never_reached_its_control_says_so():
    both = [*points([0.9, 0.5, 0.4], control=True), *points([0.6, 0.7], control=False)]
    found = compare(both, "maximize")
    assert (found.value, found.ratio, found.low) == (0.9, None, 0.0)
    assert compare(points([0.5], control=False), "maximize") is None
    assert compare([], "maximize") is None


def test_the_interval_is_that_of_all_resamples():
    control = points([0.2, 0.2, 0.8], control=True)
    search = points([0.5, 0.9], control=False)
    # Of the 27 resamples 8 are all 0.2, which the study has after 10 s, as random search has;
    # 9, 6 and 4 have 0.8 after 10, 20 and 30 s, for which the study needs 20 s.
    found = compare([*control, *search], "maximize")
    assert (found.low, found.high) == (0.5, 1.5)
    pruned = dataclasses.replace(search[0], value=0.99, complete=False)  # a last report, no result
    assert compare([*control, pruned, search[1]], "maximize").search_seconds == 20.0


def utc(minutes):
    """So many minutes after `START`."""
    return START.replace(tzinfo=UTC) + timedelta(minutes=minutes)
