"""What is told of a trial in a table."""

from datetime import datetime

import optuna
import pytest
from optuna.trial import TrialState

from search.report.facts import training_seconds
from search.storage.trial_rows import add_trial
from search.study.rows import seconds

# Optuna's trials carry local, naive times.
CHANGES = [
    (datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001
    (datetime(2026, 3, 29, 1, 30), datetime(2026, 3, 29, 3, 30)),  # noqa: DTZ001
]


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("start", "end"), CHANGES)
def test_a_trial_takes_as_long_as_it_takes_when_the_clocks_change(make_study, start, end):
    study = make_study()
    trial = optuna.trial.create_trial(state=TrialState.COMPLETE, value=0.5)
    trial.datetime_start, trial.datetime_complete = start, end
    study.storage.write(lambda session: add_trial(session, study.ledger.study_id, trial))
    (stored,) = study.trials
    assert seconds(stored, {}) == training_seconds(stored) == 3600
