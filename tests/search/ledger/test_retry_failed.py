"""Failed lineages of a finished study get another attempt, others do not."""

import threading

import pytest
import toy
from lost_answer import lost_in_commit
from optuna.trial import TrialState

from search.attributes import Reason
from search.ledger import Fenced
from search.ledger.by_hand import retry_failed
from search.worker.worker import work


@pytest.mark.slow
def test_failed_trials_of_a_finished_study_are_repeated_with_their_parameters(
    make_study, storage_url, monkeypatch
):
    study = make_study(trials=4, storage=storage_url)
    healthy = toy.Toy.run
    hows = iter([ValueError("a typo"), None, MemoryError(), None])

    def sometimes(self, trial):
        error = next(hows)
        if error is not None:
            raise error
        return healthy(self, trial)

    with monkeypatch.context() as patched:
        patched.setattr(toy.Toy, "run", sometimes)
        assert work(study, name="w", stop=threading.Event())
    assert (study.status().complete, study.status().failed) == (2, 2)
    assert retry_failed(study.ledger) == 2
    assert not study.status().done
    assert work(study, name="w", stop=threading.Event())
    status = study.status()
    assert (status.ended, status.complete, status.failed) == (4, 4, 0)
    failed = [trial for trial in study.trials if trial.state is TrialState.FAIL]
    repeated = {trial.user_attrs["retry_of"]: trial for trial in study.trials[4:]}
    assert {t.number: t.params for t in failed} == {n: t.params for n, t in repeated.items()}
    assert retry_failed(study.ledger) == 0


def test_what_another_program_failed_is_not_repeated_and_a_lost_answer_is_counted_once(
    make_study, storage_url
):
    study = make_study(trials=2, storage=storage_url)
    theirs, own = (study.ledger.claim(worker) for worker in "ab")
    study.storage.optuna.set_trial_state_values(theirs.trial._trial_id, TrialState.FAIL)
    with pytest.raises(Fenced):
        study.ledger.end(theirs, TrialState.COMPLETE, 1.0)
    study.ledger.end(own, TrialState.FAIL, reason=Reason.ERROR, attrs={"error": "E"})
    with lost_in_commit(study.storage):
        assert retry_failed(study.ledger) == 1
    assert study.ledger.claim("c").lease.lineage == own.lease.lineage
    assert study.ledger.claim("c") is None
    assert retry_failed(study.ledger) == 0
