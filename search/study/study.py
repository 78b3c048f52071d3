"""An open study: its frozen spec, its ledger, its trials."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.errors import (
    NoResult,
    ProblemError,
    SearchError,
    StorageError,
    StudyNotFound,
)
from search.ledger import Ledger, Row
from search.ledger.amendments import Amendment, amendments, amendments_of, extend
from search.problem import Problem, Resumable
from search.sampling.make import make_pruner
from search.spec import StudySpec, parse_spec
from search.spec.strategies import FREEZE_THAW
from search.storage import Storage
from search.storage.checkpoint import CheckpointStore
from search.storage.optuna_cache import OptunaStorage
from search.storage.sampler_view import SearchedStorage
from search.study.choose_sampler import Chosen
from search.study.load_problem import load_problem
from search.study.pausing import Outlook
from search.study.rows import columns, records, worked_seconds
from search.study.status import Busy, Paused, Status, Tally, best_of

if TYPE_CHECKING:
    import pandas

    from search.study.plots import Plots

__all__ = ["Study", "open_study", "study_names"]


class Study:
    """An open study. Made by `create_study` and `open_study`."""

    def __init__(self, storage: Storage, name: str, *, checkpoints: str | None) -> None:
        self.storage = storage
        self.name = name
        self.ledger = Ledger.open(storage, name)
        self.uid = self.ledger.uid
        attrs = self.ledger.attrs
        if attributes.SPEC not in attrs:
            raise StorageError(
                f"study {name!r} in {storage.url} was made by StudySearchCV and has no study file; "
                "go on with it by calling fit, browse it with `dashboard`, or name another study"
            )
        spec = parse_spec(attrs[attributes.SPEC], where=f"study {name!r}")
        #: Which sampler the study has, and why.
        self.sampler = Chosen.of(spec, attrs.get(attributes.SAMPLER))
        self.spec: StudySpec = spec.with_sampler(self.sampler.name)
        self.fingerprint: Mapping[str, str] = attrs[attributes.FINGERPRINT]
        #: Names of the metrics in [0, 1] that are shown as a percentage.
        self.percent: tuple[str, ...] = tuple(attrs.get(attributes.PERCENT, ()))
        self.checkpoints = CheckpointStore(checkpoints or attrs[attributes.CHECKPOINTS], self.uid)
        self.ledger.on_lost = self._delete_checkpoint
        #: What was changed of the budget since the study was created, oldest first.
        self.amendments: tuple[Amendment, ...] = ()
        self._amend(amendments_of(attrs.get(attributes.AMENDMENTS, ())))
        self._tally = Tally(self.spec.direction)
        self._outlook = Outlook(self.spec)
        self.optuna = self._optuna_study(storage.optuna)
        self.searched = self.optuna  # what the study's sampler and pruner are given
        if self.spec.control or self.spec.audit:
            self.searched = self._optuna_study(SearchedStorage(storage.optuna))

    def _delete_checkpoint(self, lineage: int, attempt: int) -> None:
        """Delete what an attempt and those before it left; a later one may run already."""
        self.checkpoints.delete(lineage, attempt=attempt)

    def _optuna_study(self, storage: OptunaStorage) -> optuna.Study:
        return optuna.load_study(
            study_name=self.name,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),
            pruner=make_pruner(self.spec.pruner.name, self.spec.pruner.options),
        )

    def _amend(self, found: tuple[Amendment, ...]) -> None:
        if len(found) != len(self.amendments):
            self.amendments = found
            self.spec = self.spec.amended(found[-1].trials, found[-1].hours)

    def refresh(self) -> None:
        """Take notice of what was amended since the study was opened."""
        self._amend(amendments(self.ledger))

    def extend(self, *, trials: int = 0, hours: float = 0.0) -> Amendment:
        """Add trials to the budget, and hours, of a study that runs or is finished.

        The spec stays frozen: the amendment is stored beside it. Exactly so many trials more end.
        Workers that are at work take the new budget.

        Raises:
            SpecError: the study cannot have so many trials, or has no limit of hours.
        """
        made = extend(self.ledger, self.spec, trials=trials, hours=hours)
        self.refresh()
        return made

    @cached_property
    def problem(self) -> Problem:
        """The problem, built from the frozen spec.

        Raises:
            ProblemError: it cannot be imported or built, or its data are not the study's.
        """
        problem = load_problem(self.spec)
        ours = problem.fingerprint()
        if ours != self.fingerprint:
            names = sorted(ours.keys() | self.fingerprint.keys())
            changed = [
                f"{name}: {self.fingerprint.get(name, 'none')[:12]} in the study, "
                f"{ours.get(name, 'none')[:12]} here"
                for name in names
                if ours.get(name) != self.fingerprint.get(name)
            ]
            raise ProblemError(
                f"study {self.name!r} was created on other data ({'; '.join(changed)}); "
                "give it the data it was created on, or give the study a new name"
            )
        return problem

    def last_step(self, params: Mapping[str, Any]) -> int:
        """The step that completes a trial of these parameters, `[fixed]` included.

        Raises:
            ProblemError: the problem cannot say it.
        """
        problem = self.problem
        if not isinstance(problem, Resumable):
            raise ProblemError(
                f"study {self.name!r} pauses its trials, got the problem {self.spec.problem!r} "
                "without the method last_step; use the version it was created with"
            )
        return problem.last_step(params)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial as it stands in the storage; not to be changed.

        Raises:
            StudyNotFound: the study was deleted since it was opened.
        """
        try:
            return self.storage.optuna.get_all_trials(self.ledger.study_id, deepcopy=False)
        except KeyError:
            names = study_names(self.storage)
            raise StudyNotFound(self.name, self.storage.url, names) from None

    @property
    def best(self) -> FrozenTrial:
        """The COMPLETE trial with the best value.

        Raises:
            NoResult: no trial is COMPLETE.
        """
        best = best_of(self.trials, self.spec.direction)
        if best is None:
            remedy = "let it run on"
            if self.used_up():
                remedy = "its budget is used up: " + (
                    "give a study of another name more steps"
                    if self.spec.hours is None
                    else f"add hours with `extend {self.name} --hours +1`"
                )
            raise NoResult(
                f"study {self.name!r} has no complete trial to choose from; "
                f"{remedy}; `trials {self.name}` shows how its trials ended"
            )
        return best

    def trial(self, number: int | None) -> FrozenTrial:
        """The trial of that number; the best one for None.

        Raises:
            SearchError: there is none of that number.
            NoResult: none was named and none is COMPLETE.
        """
        if number is None:
            return self.best
        trials = self.trials
        found = _numbered(trials, number)
        if found is not None:
            return found
        raise SearchError(
            f"study {self.name!r} has no trial {number}; it has {len(trials)}, numbered from 0"
        )

    def params(self, trial: FrozenTrial) -> dict[str, Any]:
        """Every parameter of a trial: `[fixed]` and its own."""
        return {**self.spec.fixed, **trial.params}

    def trials_frame(self) -> "pandas.DataFrame":
        """Every trial as a row, with the columns of `trials --csv`."""
        import pandas

        trials, fixed = self.trials, self.spec.fixed
        worked = worked_seconds(self.ledger.attempts())
        rows = records(trials, fixed, worked, paused=self.paused)
        return pandas.DataFrame(rows, columns=columns(trials, fixed))

    @property
    def plot(self) -> "Plots":
        """Interactive figures: `study.plot.history()` and so on."""
        from search.study.plots import Plots

        return Plots(self.optuna, self.spec.metric)

    def used_up(self) -> bool:
        """Whether the hours or the steps of the budget are used up: nothing begins any more."""
        hours, steps = self.spec.hours, self.spec.steps
        if hours is not None and self.ledger.elapsed() >= hours * 3600:
            return True
        return steps is not None and self.ledger.steps() >= steps

    def status(self) -> Status:
        """What the study looks like now; further calls cost what has changed since."""
        self.refresh()
        counts = self.ledger.counts()
        trials = self.trials
        tally = self._tally
        tally.add(trials)
        return Status(
            name=self.name,
            metric=self.spec.metric,
            direction=self.spec.direction,
            budget=counts.total,
            ended=counts.done,
            begun=counts.begun,
            elapsed_seconds=self.ledger.elapsed(),
            hours=self.spec.hours,
            steps=None if self.spec.steps is None else self.ledger.steps(),
            most_steps=self.spec.steps,
            halted=self.ledger.halted(),
            sampler=self.sampler.name,
            sampler_reason=self.sampler.reason,
            pauses=self.pauses,
            running=[
                _busy(row, trial, 2 * self.spec.workers.heartbeat_seconds)
                for row in self.ledger.running()
                if (trial := _numbered(trials, row.trial)) is not None
            ],
            paused=self._paused(trials) if counts.paused else (),
            finished=tuple(tally.finished),
            complete=tally.states[TrialState.COMPLETE],
            pruned=tally.states[TrialState.PRUNED],
            reasons=dict(tally.reasons),
            best=tally.best,
            amendments=self.amendments,
        )

    @property
    def pauses(self) -> bool:
        """Whether the study's sampler pauses trials and decides which go on."""
        return self.sampler.name == FREEZE_THAW

    @property
    def paused(self) -> set[int]:
        """The numbers of the paused trials, which to Optuna are running."""
        rows = self.ledger.rows(begun=True) if self.pauses else []
        return {row.trial for row in rows if row.paused and row.trial is not None}

    def _paused(self, trials: Sequence[FrozenTrial]) -> list[Paused]:
        """The paused trials, those of which most is expected first."""
        rows = self.ledger.rows(begun=True)
        numbered = {trial.number: trial for trial in trials}
        expected = self._outlook.of(rows, numbered)
        found = [
            _waiting(row, numbered[row.trial], *expected.get(row.lineage, (None, None)))
            for row in rows
            if row.paused and row.trial is not None and row.trial in numbered
        ]
        sign = 1.0 if self.spec.direction == "maximize" else -1.0

        def promise(one: Paused) -> float:
            value = one.value if one.expected is None else one.expected
            return -math.inf if value is None or math.isnan(value) else sign * value

        return sorted(found, key=promise, reverse=True)


def _numbered(trials: Sequence[FrozenTrial], number: int | None) -> FrozenTrial | None:
    """The trial of that number among trials in order of their numbers."""
    if number is None:
        return None
    at = bisect_left(trials, number, key=lambda trial: trial.number)
    return trials[at] if at < len(trials) and trials[at].number == number else None


def _busy(row: Row, trial: FrozenTrial, silence_seconds: float) -> Busy:
    steps = trial.intermediate_values
    return Busy(
        worker=row.worker or "",
        lineage=row.lineage,
        number=trial.number,
        name=trial.user_attrs.get(attributes.NAME),
        attempt=row.attempt,
        step=max(steps, default=0),
        value=steps[max(steps)] if steps else None,
        since_seconds=row.running_seconds or 0.0,
        heartbeat_seconds=row.heartbeat_age_seconds or 0.0,
        silent=(row.heartbeat_age_seconds or 0.0) > silence_seconds,
        lost_attempts=row.lost_attempts,
        params=trial.params,
    )


def _waiting(
    row: Row, trial: FrozenTrial, expected: float | None, deviation: float | None
) -> Paused:
    steps = trial.intermediate_values
    return Paused(
        lineage=row.lineage,
        number=trial.number,
        name=trial.user_attrs.get(attributes.NAME),
        step=max(steps, default=0),
        value=steps[max(steps)] if steps else None,
        expected=expected,
        deviation=deviation,
        params=trial.params,
    )


def open_study(
    name: str,
    storage: Storage,
    *,
    checkpoints: str | None = None,
) -> Study:
    """Open a study that exists.

    Args:
        checkpoints: where this process finds them, when not where the study says.

    Raises:
        StudyNotFound: there is none of that name.
        StorageError: it was made by StudySearchCV or by another program.
    """
    return Study(storage, name, checkpoints=checkpoints)


def study_names(storage: Storage) -> list[str]:
    """The studies in a storage that `open_study` opens, sorted."""
    studies = storage.optuna.get_all_studies()
    return sorted(study.study_name for study in studies if attributes.SPEC in study.user_attrs)
