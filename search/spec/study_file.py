"""What one study file says: `StudySpec`, with its hash and what follows from its seed."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from search.spec.aims import Aim, Confirm, Constraint
from search.spec.keys import MOST_LINEAGES
from search.spec.outside import Notify, Tracker
from search.spec.prior import Prior
from search.spec.space import Space
from search.spec.values import leaves
from search.text import counted

__all__ = ["NamedTrial", "Strategy", "StudySpec", "Workers", "trial_seed"]


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A sampler or a pruner by name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How the workers of a study behave."""

    heartbeat_seconds: float = 5.0  # between two proofs of life
    max_retries: int = 3  # lost attempts of a lineage that another one follows
    trial_timeout_seconds: float | None = None  # of one attempt


@dataclass(frozen=True, kw_only=True)
class NamedTrial:
    """A trial that runs first, exactly as given; without a name where it was added by hand."""

    name: str | None
    params: Mapping[str, Any]
    repeat: int | None = None  # equal numbers share a seed; None: the seed is the lineage's own
    reshuffle: bool = False  # whether it has another split of the data, that of its repeat


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A study, as its file declares it. Frozen with the study when that is created."""

    name: str
    problem: str
    aims: tuple[Aim, ...]  # one or two
    constraints: tuple[Constraint, ...]
    seed: int
    folds: int | None  # of a cross-validation; None: one part is held out
    trials: int  # lineages
    hours: float | None
    steps: int | None  # that all trials together report
    target: float | None  # a value that ends the search
    patience: int | None  # complete trials without a better one that end the search
    sampler: Strategy
    pruner: Strategy
    control: int  # of the lineages: drawn at random, never pruned, unknown to sampler and pruner
    audit: float  # share of the pruned trials, or of those paused at last, that run to their end
    workers: Workers
    data: Mapping[str, Any]
    fixed: Mapping[str, Any]
    space: Space
    named: tuple[NamedTrial, ...]
    text: str  # of the file, as it was read
    present: str  # the text since the last amendment; that of the file while there is none
    refit: Mapping[str, Any]  # replace parameters of the best trial when it is trained on all data
    prior: Prior | None = None  # earlier studies
    confirm: Confirm | None = None  # how the winner is chosen among the best trials
    notify: Notify | None = None
    track: tuple[Tracker, ...] = ()
    #: Trials of earlier studies that the sampler learns from, as long as there are few own ones.
    earlier: tuple[FrozenTrial, ...] = ()
    added: int = 0  # of the lineages: by amendments
    #: Lineages that were added one at a time, and the parameters that each of them was given.
    given: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content; comments, blank lines and the order of keys do not count."""
        content = json.dumps(tomllib.loads(self.text), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def budget_trials(self) -> int:
        """`budget.trials` of the file: the lineages without those added one at a time."""
        return self.trials - len(self.given)

    @property
    def metric(self) -> str:
        """The name of the first metric, which trials report at each step."""
        return self.aims[0].name

    @property
    def direction(self) -> str:
        """Of the first metric: "maximize" or "minimize"."""
        return self.aims[0].direction

    @property
    def directions(self) -> tuple[str, ...]:
        """Of each metric."""
        return tuple(aim.direction for aim in self.aims)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that are aimed at."""
        return tuple(aim.name for aim in self.aims)

    @cached_property
    def wanted(self) -> frozenset[str]:
        """The names of all metrics that aims and constraints need."""
        return frozenset(self.metrics) | {each.name for each in self.constraints}

    @cached_property
    def most_trials(self) -> int:
        """What `budget_trials` may be at most: no more than there are points to try."""
        if not self.space.parameters:
            return len(self.named)
        if self.sampler.name == "grid":
            return len(self.named) + len(self._grid)
        return MOST_LINEAGES

    @cached_property
    def _grid(self) -> list[dict[str, Any]]:
        points = self.space.grid(self.fixed)
        # Shuffled, so that a study that is stopped early has seen all regions.
        key = {i: hashlib.sha256(f"{self.seed}:{i}".encode()).digest() for i in range(len(points))}
        return [points[i] for i in sorted(key, key=key.__getitem__)]

    def assigned(self, lineage: int) -> NamedTrial | None:
        """The parameters a lineage was given in advance: by name, by hand, or as a grid point."""
        if lineage < len(self.named):
            return self.named[lineage]
        if lineage in self.given:
            return NamedTrial(name=None, params=self.given[lineage])
        if self.sampler.name == "grid":
            index = self._unassigned_before(lineage)
            return NamedTrial(name=f"grid-{index}", params=self._grid[index])
        return None

    def _unassigned_before(self, lineage: int) -> int:
        """How many lineages before this one were given no parameters, neither by name nor hand."""
        return lineage - len(self.named) - sum(other < lineage for other in self.given)

    def is_control(self, lineage: int) -> bool:
        """Whether it belongs to the control, whose lineages lie evenly among the unassigned."""
        # Those of amendments lie as densely.
        index = self._unassigned_before(lineage)
        free = self.trials - self.added - len(self.named)
        if index < 0 or lineage in self.given or not self.control or free < 1:
            return False
        return (index + 1) * self.control // free > index * self.control // free

    def is_audited(self, lineage: int) -> bool:
        """Whether it runs on when the pruner would end it; drawn in advance, whatever it does."""
        digest = hashlib.sha256(f"{self.seed}:audit:{lineage}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.audit * 2**64

    def trial_seed(self, lineage: int) -> int:
        """The seed of a lineage, the same for each of its attempts.

        No two lineages share one, except named trials of the same `repeat`.
        """
        named = self.named[lineage] if lineage < len(self.named) else None
        if named is None or named.repeat is None:
            return trial_seed(self.seed, lineage)
        return trial_seed(self.seed, f"repeat {named.repeat}")

    @property
    def budget(self) -> str:
        """The budget in words: "200 trials, 0.3 hours or 1,500 steps, whichever comes first"."""
        parts = [counted(self.trials, "trial")]
        if self.hours is not None:
            parts.append(f"{self.hours:g} hours")
        if self.steps is not None:
            parts.append(counted(self.steps, "step"))
        if self.target is not None:
            parts.append(f"the target of {self.target:g}")
        if self.patience is not None:
            parts.append(f"a patience of {counted(self.patience, 'trial')}")
        if len(parts) == 1:
            return parts[0]
        return f"{', '.join(parts[:-1])} or {parts[-1]}, whichever comes first"

    def decision_seed(self, number: int) -> int:
        """The seed of a decision of freeze-thaw, by how many were carried out before it."""
        digest = hashlib.sha256(f"{self.seed}:decision:{number}".encode()).digest()
        return int.from_bytes(digest[:8]) >> 1

    def with_sampler(self, name: str) -> "StudySpec":
        """The same study with the sampler that was chosen for it; the text stays."""
        return self if name == self.sampler.name else replace(self, sampler=Strategy(name=name))

    def distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """Optuna's distribution for each of these parameters.

        A parameter of a named trial that the space does not declare becomes a choice among all
        the values that named trials give it, as Optuna wants one distribution per name.
        """
        found: dict[str, BaseDistribution] = {}
        for name in params:
            owner = self.space.owner(name)
            if owner is not None:
                found[name] = owner.distribution
            else:
                values = {
                    repr(t.params[name]): t.params[name] for t in self.named if name in t.params
                }
                found[name] = CategoricalDistribution([values[key] for key in sorted(values)])
        return found

    def differences(self, other_text: str) -> list[str]:
        """What another spec's text says differently, one line per key: `key: theirs -> ours`."""
        theirs, ours = leaves(tomllib.loads(other_text)), leaves(tomllib.loads(self.text))
        return [
            f"{key}: {theirs.get(key, 'absent')} in the study, {ours.get(key, 'absent')} here"
            for key in sorted(theirs.keys() | ours.keys())
            if theirs.get(key) != ours.get(key)
        ]


def trial_seed(seed: int, lineage: int | str) -> int:
    """The seed of a lineage, or of a repeat, in a study with this seed: 0 <= seed < 2**63."""
    digest = hashlib.sha256(f"{seed}:{lineage}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
