"""An open study: its frozen spec, its ledger, its trials."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.aims import choose
from search.aims.confirmed import Confirmation
from search.aims.earlier import with_prior
from search.errors import ProblemError, SearchError, StorageError, StudyNotFound
from search.ledger import Ledger, RuleEnd
from search.ledger.amendments import Amendment, amend, amendments
from search.ledger.by_hand import Stopped, hold, let_go_on, stop_trial
from search.problem import Problem, Resumable
from search.sampling.make import make_pruner
from search.spec import StudySpec, parse_spec
from search.spec.amend import Draft, added, extended
from search.spec.strategies import FREEZE_THAW
from search.storage import Storage
from search.storage.checkpoint import CheckpointStore
from search.storage.optuna_cache import OptunaStorage
from search.storage.sampler_view import SearchedStorage
from search.storage.study_rows import study_names
from search.study import stop_rules
from search.study.amend import amend_study, preview, read
from search.study.choose_sampler import Chosen
from search.study.confirmation.find import confirming_ledgers, find_confirmation, mark_of
from search.study.load_problem import check_trial, last_step_of, load_study_problem
from search.study.pausing import Outlook
from search.study.rows import columns, records, worked_seconds
from search.study.specs import Specs
from search.study.status import Status, Tally, busy_of, numbered
from search.text import ending

if TYPE_CHECKING:
    import pandas

    from search.study.views.plots import Plots

__all__ = ["Study"]


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
        spec = parse_spec(attrs[attributes.SPEC], where=f"study {name!r}", generated=True)
        self._chosen = Chosen.of(spec, attrs.get(attributes.SAMPLER))
        frozen = with_prior(spec.with_sampler(self._chosen.name), attrs)
        self.specs = Specs(frozen, lambda after: amendments(self.ledger, after=after))
        self.fingerprint: Mapping[str, str] = attrs[attributes.FINGERPRINT]
        #: Names of the metrics in [0, 1] that are shown as a percentage.
        self.percent: tuple[str, ...] = tuple(attrs.get(attributes.PERCENT, ()))
        self.checkpoints = CheckpointStore(checkpoints or attrs[attributes.CHECKPOINTS], self.uid)
        # A later attempt may run already.
        self.ledger.on_lost = lambda lineage, n: self.checkpoints.delete(lineage, attempt=n)
        self._tally = Tally(*spec.directions)
        self._outlook = Outlook()
        self._searched: dict[tuple[int, bool], optuna.Study] = {}
        self.specs.refresh()
        self.optuna = self._optuna_study(storage.optuna, self.spec)

    def _optuna_study(self, storage: OptunaStorage, spec: StudySpec) -> optuna.Study:
        return optuna.load_study(
            study_name=self.name,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),
            pruner=make_pruner(spec.pruner.name, spec.pruner.options),
        )

    @property
    def spec(self) -> StudySpec:
        """The present spec: that of its creation, and what was amended since."""
        return self.specs.present

    @property
    def amendments(self) -> tuple[Amendment, ...]:
        """What was changed since the study was created, oldest first."""
        return self.specs.amendments

    @property
    def sampler(self) -> Chosen:
        """Which sampler the study has, and why."""
        name = self.spec.sampler.name
        if name == self._chosen.name:
            return self._chosen
        return Chosen(name=name, reason="an amendment names it")

    def searched(self, number: int, *, earlier: bool = True) -> optuna.Study:
        """What sampler and pruner are given for trials of the spec since that amendment.

        With `earlier` these of earlier studies are shown; a pruner counts the study's own alone.
        """
        if (number, earlier) not in self._searched:
            spec, see = self.specs.under(number), self.specs.since(number)
            storage, others = self.storage.optuna, spec.earlier if earlier else ()
            if spec.control or spec.audit or len(spec.aims) > 1 or see is not None or others:
                storage = SearchedStorage(storage, see, others)
            self._searched[number, earlier] = self._optuna_study(storage, spec)
        return self._searched[number, earlier]

    def refresh(self) -> None:
        """Take notice of what was amended since the study was opened."""
        if self.specs.refresh():
            self._searched.clear()
            self.optuna = self._optuna_study(self.storage.optuna, self.spec)

    def extend(self, *, trials: int = 0, hours: float = 0.0, steps: int = 0) -> Amendment:
        """Add trials, hours and steps to the budget of a study that runs or is finished.

        The spec stays frozen: the amendment is stored beside it. Exactly so many trials more end.
        Workers that are at work take the new budget.

        Raises:
            SpecError: the study cannot have so many trials, or has no limit of hours or steps.
        """
        return self._amend(
            lambda before, _: extended(before, trials=trials, hours=hours, steps=steps)
        )

    def add(self, params: Mapping[str, Any]) -> Amendment:
        """Add one trial, which is next in turn; the budget grows by it.

        Args:
            params: values of the space; the parameters that are not given are sampled. What a
                parameter depends on must be given with it, or be fixed.

        Raises:
            SpecError: a parameter is not in the space, has another value than it allows, does not
                apply, or all are given and break a constraint that is known in advance.
            ProblemError: all parameters are given, and the problem refuses them.
        """
        self.refresh()
        added(self.spec, params)  # refused before the problem is loaded
        whole = {**self.spec.fixed, **params}
        if self.spec.space.point_of(whole, self.spec.fixed) is not None:
            check_trial(self.problem, self.spec, whole)  # no transaction waits for it
        return self._amend(lambda before, _: added(before, params))

    def preview(self, spec: StudySpec | Path | str) -> Draft:
        """What `amend` would change; see there."""
        self.refresh()
        return preview(self.specs, read(spec))

    def amend(self, spec: StudySpec | Path | str, *, seen: int | None = None) -> Amendment:
        """Change what is searched, by a changed study file.

        From then on trials are proposed by the new file. Earlier ones stay; the sampler sees those
        that lie in the new space. Workers that are at work take the amendment with their next
        trial, and end the present one by the file by which it began.

        Args:
            spec: the file's path, its text, or the parsed file.
            seen: refuse it unless this is the number of the last amendment.

        Raises:
            SpecError: the file changes what makes the study the one that it is (problem, metric,
                data, seed, ...), shrinks it, or changes nothing.
            ProblemError: the problem refuses a parameter of the new space.
        """
        self.refresh()
        seen = len(self.amendments) if seen is None else seen
        made = amend_study(self.ledger, self.specs, read(spec), seen=seen)
        self.refresh()
        return made

    def _amend(self, draft_of: Callable[[StudySpec, int], Draft]) -> Amendment:
        made = amend(self.ledger, self.specs.frozen, draft_of)
        self.refresh()
        return made

    @cached_property
    def problem(self) -> Problem:
        """The problem, built from the frozen spec.

        Raises:
            ProblemError: it cannot be imported or built, or its data are not the study's.
        """
        return load_study_problem(self.specs.frozen, self.fingerprint)

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
        return last_step_of(problem, self.spec.problem, params)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial as it stands in the storage; not to be changed.

        Raises:
            StudyNotFound: the study was deleted since it was opened.
        """
        try:
            return self.storage.optuna.get_all_trials(self.ledger.study_id, deepcopy=False)
        except KeyError:
            names = self.storage.read(study_names)
            raise StudyNotFound(self.name, self.storage.url, names) from None

    @property
    def best(self) -> FrozenTrial:
        """The COMPLETE trial with the best value that keeps the constraints.

        Where the best few were confirmed, the one of them with the best mean.

        Raises:
            NoResult: there is none.
            SearchError: the study has two metrics.
        """
        confirmed = self.confirmation
        if confirmed is not None and confirmed.winner is not None:
            return self.trial(confirmed.winner.trial)
        return choose.best(self.spec, self.trials, lambda: self.status().remedy)

    @property
    def pareto(self) -> list[FrozenTrial]:
        """The trials that no other one betters, see `search.aims.choose.front`; else the best."""
        if len(self.spec.aims) == 1:
            return [self.best]
        return choose.front(self.spec, self.trials, lambda: self.status().remedy)

    @property
    def confirmation(self) -> Confirmation | None:
        """What came of training the present best trials again (`[confirm]`); None before it began.

        What was confirmed before an amendment, or with other candidates, counts no more.
        """
        if self.spec.confirm is None:
            return None
        trials = self.trials
        mark = mark_of(self.spec, self.uid, self.amendments, trials, self.params)
        return find_confirmation(self.storage, self.spec, mark, trials)

    def preferred(self, bound: str) -> FrozenTrial:
        """The trial of the front that keeps a bound such as "latency_ms<=0.2".

        See `search.aims.choose.preferred`.
        """
        return choose.preferred(self.spec, self.trials, bound, lambda: self.status().remedy)

    def trial(self, number: int | None) -> FrozenTrial:
        """The trial of that number; the best one for None.

        Raises:
            SearchError: there is none of that number.
            NoResult: none was named and none is COMPLETE.
        """
        if number is None:
            return self.best
        trials = self.trials
        if (found := numbered(trials, number)) is not None:
            return found
        do = f"name one of 0 to {len(trials) - 1}" if trials else f"begin with `run {self.name}`"
        raise SearchError(f"study {self.name!r} has no trial {number}; {do}")

    def params(self, trial: FrozenTrial) -> dict[str, Any]:
        """Every parameter of a trial: its own, and `[fixed]` of the spec that proposed it."""
        return self.specs.params(trial)

    def trials_frame(self) -> "pandas.DataFrame":
        """Every trial as a row, with the columns of `trials --csv`."""
        import pandas

        trials, worked = self.trials, worked_seconds(self.ledger.attempts())
        rows = records(trials, self.params, worked, resting=self.resting)
        return pandas.DataFrame(rows, columns=columns(trials, self.params))

    @property
    def plot(self) -> "Plots":
        """Interactive figures: `study.plot.history()` and so on."""
        from search.study.views.plots import Plots

        return Plots(self.optuna, self.spec.metric)

    def pause(self) -> bool:
        """Pause the study: workers release their trials at the next heartbeat, and wait.

        Workers that join wait as well. Its time does not count towards the hours of the budget.

        Returns:
            False where it was paused before.
        """
        ledgers = (self.ledger, *confirming_ledgers(self.storage, self.uid))
        return any([hold(ledger) for ledger in ledgers])

    def resume(self) -> bool:
        """End the pause: workers go on with the released trials; False where there was none."""
        ledgers = (self.ledger, *confirming_ledgers(self.storage, self.uid))
        return any([let_go_on(ledger) for ledger in ledgers])

    def stop(self, number: int) -> Stopped:
        """End a running or paused trial for good; it counts, PRUNED at its last report.

        A worker that runs it notices at its next report or heartbeat, and goes on with another.

        Raises:
            SearchError: there is no such trial, or it has ended.
        """
        self.trial(number)  # a database takes no number of any size
        if (stopped := stop_trial(self.ledger, number)) is None:
            how = ending(self.trial(number))
            again = any(row.trial == number and not row.done for row in self.ledger.rows())
            raise SearchError(
                f"only a trial that runs or is paused can be stopped, got trial {number} of study "
                f"{self.name!r}, which has ended ({how}); "
                + ("stop the one that repeats it" if again else f"see `status {self.name}`")
            )
        self.checkpoints.delete(stopped.lineage, attempt=stopped.attempt)
        return stopped

    def ended_by(self) -> RuleEnd | None:
        """The stop rule of the budget that ended the study; one that holds now is recorded."""
        return stop_rules.ended_by(
            self.ledger,
            self.spec,
            lambda: self._tally.add(self.trials).finished,
            amendment=len(self.amendments),
            since=max((one.number for one in self.amendments if one.searches), default=0),
        )

    def used_up(self) -> bool:
        """Whether the budget is used up before its trials are: nothing begins any more.

        Its hours or steps are, or a stop rule has ended the study.
        """
        return self.ended_by() is not None or stop_rules.used_up(self.ledger, self.spec)

    def status(self) -> Status:
        """What the study looks like now; further calls cost what has changed since."""
        self.refresh()
        counts, standing = self.ledger.counts(), self.ledger.standing()
        trials = self.trials
        tally = self._tally.add(trials)
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
            halted=standing.halted,
            held_since=standing.held_since,
            ended_by=standing.ended_by,
            sampler=self.sampler.name,
            sampler_reason=self.sampler.reason,
            pauses=self.pauses,
            running=[
                busy_of(row, trial, 2 * self.spec.workers.heartbeat_seconds)
                for row in self.ledger.running()
                if (trial := numbered(trials, row.trial)) is not None
            ],
            paused=self._outlook.paused(self.specs, self.ledger.rows(begun=True), trials)
            if counts.paused
            else (),
            finished=tuple(tally.finished),
            complete=tally.states[TrialState.COMPLETE],
            pruned=tally.states[TrialState.PRUNED],
            reasons=dict(tally.reasons),
            best=tally.best,
            front=tuple(tally.front),
            metrics=dict(zip(self.spec.metrics, self.spec.directions, strict=True)),
            amendments=self.amendments,
        )

    @property
    def pauses(self) -> bool:
        """Whether the study's sampler pauses trials and decides which go on."""
        return self.sampler.name == FREEZE_THAW

    @property
    def resting(self) -> dict[int, str]:
        """See `Ledger.resting`."""
        return self.ledger.resting()
