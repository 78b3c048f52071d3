"""What the cache keeps, and what it asks for, while other processes and threads write."""

import threading

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.storage import open_storage
from search.storage.trial_cache import TrialCache

MAXIMIZE = [StudyDirection.MAXIMIZE]


def trial(number: int, state: TrialState = TrialState.COMPLETE, trial_id: int = -1) -> FrozenTrial:
    value = 1.0 if state is TrialState.COMPLETE else None
    made = create_trial(state=state, value=value)
    made.number, made._trial_id = number, number if trial_id < 0 else trial_id
    return made


def test_a_gap_asks_for_what_is_new_and_what_ran() -> None:
    cache = TrialCache()
    running = trial(1, TrialState.RUNNING)
    cache.fill(7, [trial(0), running, trial(2)])
    gap = cache.gap(7)
    assert (gap.after, gap.also, gap.unless_running) == (2, {1}, set())
    cache.learn(7, trial(3, TrialState.RUNNING))
    assert cache.gap(7).unless_running == {3}
    cache.fill(7, [trial(1)])
    assert cache.gap(7).also == {3}


def test_a_late_read_does_not_undo_what_was_written() -> None:
    cache = TrialCache()
    mine = trial(0, TrialState.RUNNING)
    mine.user_attrs = {"a": 1}
    cache.learn(7, mine)
    cache.fill(7, [trial(0, TrialState.RUNNING)])  # as it was read before the write
    known = cache.trial(0)
    assert known is not None
    assert known.user_attrs == {"a": 1}


def test_a_deleted_study_is_forgotten() -> None:
    cache = TrialCache()
    cache.fill(7, [trial(0)])
    cache.drop(7)
    assert cache.trials(7) == []
    assert cache.trial(0) is None


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 6])
def test_threads_that_read_at_once_see_every_trial(storage_url: str, threads: int) -> None:
    writer, reader = open_storage(storage_url), open_storage(storage_url)
    study = optuna.create_study(storage=writer.optuna)
    errors: list[object] = []

    def read() -> None:
        seen = 0
        while seen < 12:
            trials = reader.optuna.get_all_trials(study._study_id, deepcopy=False)
            finished = sum(t.state.is_finished() for t in trials)
            if finished < seen or [t.number for t in trials] != list(range(len(trials))):
                errors.append((finished, seen))
                return
            seen = finished

    readers = [threading.Thread(target=read) for _ in range(threads)]
    for thread in readers:
        thread.start()
    for _ in range(12):
        study.tell(study.ask(), 1.0)
    for thread in readers:
        thread.join(60)
    assert errors == []
    assert not any(thread.is_alive() for thread in readers)
    writer.close()
    reader.close()
