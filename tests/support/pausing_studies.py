"""Studies whose trials pause: run in this process, decided by chance, and checked at their end."""

import random
import threading
from collections import Counter

import toy
from optuna.trial import TrialState

from search.sampling.freeze_thaw import Decision, grid
from search.study import Study
from search.worker.worker import work

__all__ = ["FREEZE_THAW", "SHORT", "by_chance", "check", "run"]

FREEZE_THAW = '[sampler]\nname = "freeze-thaw"\n[fixed]\nsteps = 12\n'
#: A named trial of one step comes first.
SHORT = f'{FREEZE_THAW}[[trials]]\nname = "short"\nparams = {{ x = 0.5, steps = 1 }}\n'


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
