"""Whether a toy study came out exact: each lineage ended once, on an uninterrupted curve."""

from collections import Counter

from optuna.trial import TrialState
from toy import whole_curve

from search.study import Study


def check_exact(study: Study) -> None:
    """Assert that the study is over, exactly, whatever happened to its workers."""
    trials, steps = study.trials, study.spec.fixed["steps"]
    ended = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    lineages = Counter(trial.user_attrs["lineage"] for trial in ended)
    assert lineages == Counter(range(study.spec.trials))
    counts = study.ledger.counts()
    assert (counts.done, counts.running, counts.free) == (study.spec.trials, 0, 0)
    assert [trial.number for trial in trials if not trial.state.is_finished()] == []
    successors = Counter(trial.user_attrs.get("retry_of") for trial in trials)
    for trial in trials:
        if trial.user_attrs.get("reason") == "lost":
            assert successors[trial.number] == 1, f"trial {trial.number}"
    for trial in ended:
        seed = study.spec.trial_seed(trial.user_attrs["lineage"])
        curve = whole_curve(seed, trial.params["x"], steps)
        assert list(trial.intermediate_values.values()) == curve, f"trial {trial.number}"
