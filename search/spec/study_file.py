"""One study file, read, validated and hashed: `StudySpec`."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from search.errors import SpecError
from search.spec.size import count
from search.spec.space import Space, parse_space
from search.spec.strategies import PRUNERS, SAMPLERS, Options, check_options
from search.spec.values import leaves, number_of, only, text_of

__all__ = ["NamedTrial", "Strategy", "StudySpec", "Workers", "parse_spec", "read_spec"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TABLES = (
    "budget", "sampler", "pruner", "control", "audit", "workers", "data", "fixed", "space",
    "trials",
)  # fmt: skip
_KEYS = ("problem", "name", "seed", "metric", "direction", "mode", "folds", *_TABLES)
_MODES = ("holdout", "cross-validation")
DEFAULT_FOLDS = 5
MOST_GRID_POINTS = 1_000_000
MOST_LINEAGES = 100_000  # each is a row from the start; TPE and the dashboard give up before


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A sampler or a pruner by name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How the workers of a study behave."""

    heartbeat_seconds: float = 5.0  # between two proofs of life
    max_retries: int = 3  # losses of a lineage that are made good
    trial_timeout_seconds: float | None = None  # of one attempt


@dataclass(frozen=True, kw_only=True)
class NamedTrial:
    """A trial that runs first, exactly as given."""

    name: str
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """A study, as its file declares it. Frozen with the study when that is created."""

    name: str
    problem: str
    metric: str
    direction: str
    seed: int
    folds: int | None  # of a cross-validation; None: one part is held out
    trials: int  # lineages
    hours: float | None
    sampler: Strategy
    pruner: Strategy
    control: int  # of the lineages: drawn at random, never pruned, unknown to sampler and pruner
    audit: float  # share of the pruned trials that run on to their end
    workers: Workers
    data: Mapping[str, Any]
    fixed: Mapping[str, Any]
    space: Space
    named: tuple[NamedTrial, ...]
    text: str  # of the file, as it was read

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content; comments, blank lines and the order of keys do not count."""
        content = json.dumps(tomllib.loads(self.text), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def _grid(self) -> list[dict[str, Any]]:
        points = self.space.grid(self.fixed)
        # Shuffled, so that a study that is stopped early has seen all regions.
        key = {i: hashlib.sha256(f"{self.seed}:{i}".encode()).digest() for i in range(len(points))}
        return [points[i] for i in sorted(key, key=key.__getitem__)]

    def assigned(self, lineage: int) -> NamedTrial | None:
        """The parameters a lineage was given in advance: by name, or as its point of the grid."""
        if lineage < len(self.named):
            return self.named[lineage]
        if self.sampler.name == "grid":
            index = lineage - len(self.named)
            return NamedTrial(name=f"grid-{index}", params=self._grid[index])
        return None

    def is_control(self, lineage: int) -> bool:
        """Whether it belongs to the control, whose lineages lie evenly among the unassigned."""
        index, free = lineage - len(self.named), self.trials - len(self.named)
        if index < 0 or not self.control:
            return False
        return (index + 1) * self.control // free > index * self.control // free

    def is_audited(self, lineage: int) -> bool:
        """Whether it runs on when the pruner would end it; drawn in advance, whatever it does."""
        digest = hashlib.sha256(f"{self.seed}:audit:{lineage}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.audit * 2**64

    def trial_seed(self, lineage: int) -> int:
        """The seed of a lineage, the same for each of its attempts; no two lineages share one."""
        digest = hashlib.sha256(f"{self.seed}:{lineage}".encode()).digest()
        return int.from_bytes(digest[:8]) >> 1

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


def read_spec(path: Path) -> StudySpec:
    """Read and validate a study file.

    Raises:
        SpecError: names the file, the key, the rule, the value received and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(
            f"cannot read the study file {path}: {reason}; check the path and the file"
        ) from error
    return parse_spec(text, where=str(path))


def parse_spec(text: str, *, where: str) -> StudySpec:
    """Validate the text of a study file; `where` names it in messages.

    Raises:
        SpecError: names the key, the rule, the value received and what to do.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where} is not valid TOML: {error}") from error
    only(table, _KEYS, where, "key")
    for key in _TABLES:
        wanted = list if key == "trials" else dict
        if not isinstance(table.get(key, wanted()), wanted):
            shape = "[[trials]] tables" if key == "trials" else f"a table [{key}]"
            raise SpecError(f"{where}: {key} must be {shape}, got {table[key]!r}")
    name = text_of(table, "name", where)
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"{where}: name may hold letters, digits, '.', '_' and '-', got {name!r}; rename it"
        )
    problem = text_of(table, "problem", where)
    if problem.count(":") != 1:
        raise SpecError(f"{where}: problem must be 'module:Class', got {problem!r}")
    direction = text_of(table, "direction", where)
    if direction not in ("maximize", "minimize"):
        raise SpecError(f"{where}: direction must be maximize or minimize, got {direction!r}")
    fixed = table.get("fixed", {})
    space = parse_space(table.get("space", {}), fixed, where)
    sampler = _strategy(table.get("sampler", {"name": "tpe"}), "sampler", SAMPLERS, where)
    pruner = _strategy(table.get("pruner", {"name": "none"}), "pruner", PRUNERS, where)
    named = _named(table.get("trials", []), space, fixed, where)
    trials = _budget(table.get("budget", {}), space, fixed, sampler, named, where)
    return StudySpec(
        name=name,
        problem=problem,
        metric=text_of(table, "metric", where),
        direction=direction,
        seed=number_of(table, "seed", where, default=0, whole=True, low=0),
        folds=_folds(table, where),
        trials=trials,
        hours=number_of(table.get("budget", {}), "hours", f"{where}: budget", above=0.0),
        sampler=sampler,
        pruner=pruner,
        control=_control(table.get("control"), sampler, trials - len(named), where),
        audit=_audit(table.get("audit"), pruner, where),
        workers=_workers(table.get("workers", {}), where),
        data=table.get("data", {}),
        fixed=fixed,
        space=space,
        named=named,
        text=text,
    )


def _folds(table: Mapping[str, Any], where: str) -> int | None:
    mode = table.get("mode", "holdout")
    if mode not in _MODES:
        raise SpecError(f"{where}: mode must be {' or '.join(_MODES)}, got {mode!r}")
    if mode == "cross-validation":
        return int(number_of(table, "folds", where, default=DEFAULT_FOLDS, whole=True, low=2))
    if "folds" in table:
        raise SpecError(
            f'{where}: folds = {table["folds"]!r} goes with mode = "cross-validation" only; '
            "add that, or leave folds out"
        )
    return None


def _budget(
    table: Mapping[str, Any],
    space: Space,
    fixed: Mapping[str, Any],
    sampler: Strategy,
    named: tuple[NamedTrial, ...],
    where: str,
) -> int:
    """The number of lineages; where it can only be one number it need not be given."""
    only(table, ("trials", "hours"), f"{where}: budget", "key")
    most: int | None = None
    if not space.parameters:
        most = len(named)
    elif sampler.name == "grid":
        try:
            space.check_steps()
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from error
        points = count(space, fixed).points
        assert points is not None
        if points > MOST_GRID_POINTS:
            raise SpecError(
                f"{where}: a grid is shuffled whole, so it may have {MOST_GRID_POINTS:,} points, "
                f"got {points:,}; give it fewer values, or name the sampler random"
            )
        most = len(named) + points
    trials = number_of(table, "trials", f"{where}: budget", default=most, whole=True, low=1)
    if trials is None:
        raise SpecError(f"{where}: budget.trials is missing; say how many trials shall finish")
    if most is not None and trials > most:
        source = "named trials" if not space.parameters else "named trials and points of the grid"
        raise SpecError(
            f"{where}: there are {most} {source}, got budget.trials = {trials}; "
            + (f"set it to {most} or leave it out" if most else "declare a [space] or [[trials]]")
        )
    if trials > MOST_LINEAGES:
        raise SpecError(
            f"{where}: budget.trials must be <= {MOST_LINEAGES:,}, got {trials:,}; limit a search "
            "by budget.hours"
        )
    if trials < len(named):
        raise SpecError(
            f"{where}: budget.trials = {trials} is below the {len(named)} named trials; raise it"
        )
    return int(trials)


def _control(
    table: Mapping[str, Any] | None, sampler: Strategy, unassigned: int, where: str
) -> int:
    """The lineages that are drawn at random, beside those that the sampler proposes."""
    if table is None:
        return 0
    here = f"{where}: control"
    only(table, ("trials",), here, "key")
    trials = number_of(table, "trials", here, whole=True, low=1)
    if trials is None:
        raise SpecError(f"{here}.trials is missing; say how many trials shall be drawn at random")
    if sampler.name in ("random", "grid"):
        raise SpecError(
            f"{here} compares the sampler with random search, got sampler {sampler.name}; "
            "remove [control], or name another sampler"
        )
    if trials >= unassigned:
        raise SpecError(
            f"{here}.trials are part of budget.trials and must leave some to the sampler: need "
            f"less than {unassigned} (without the named ones), got {trials}; lower it"
        )
    return int(trials)


def _audit(table: Mapping[str, Any] | None, pruner: Strategy, where: str) -> float:
    """The share of the pruned trials that run on."""
    if table is None:
        return 0.0
    here = f"{where}: audit"
    only(table, ("fraction",), here, "key")
    fraction = number_of(table, "fraction", here, above=0.0)
    if fraction is None:
        raise SpecError(f"{here}.fraction is missing; 0.05 lets 5 % of the pruned trials run on")
    if fraction > 1:
        raise SpecError(f"{here}.fraction must be a number > 0 and <= 1, got {fraction!r}")
    if pruner.name == "none":
        raise SpecError(f"{here} lets pruned trials run on, got no pruner; add a [pruner]")
    return float(fraction)


def _named(
    tables: list[Any], space: Space, fixed: Mapping[str, Any], where: str
) -> tuple[NamedTrial, ...]:
    named: list[NamedTrial] = []
    for index, table in enumerate(tables):
        here = f"{where}: trials[{index}]"
        only(table, ("name", "params"), here, "key")
        name = text_of(table, "name", here)
        if any(name == other.name for other in named):
            raise SpecError(f"{here}: the name {name!r} is taken; give each trial its own")
        params = table.get("params", {})
        if not isinstance(params, dict):
            raise SpecError(f"{here}: params must be a table, got {params!r}")
        for key, value in params.items():
            if not isinstance(value, bool | int | float | str):
                raise SpecError(
                    f"{here}: {key} must be a string, a number, true or false, got {value!r}"
                )
        space.check(params, fixed, f"{here} ({name})")
        named.append(NamedTrial(name=name, params=params))
    return tuple(named)


def _strategy(table: Mapping[str, Any], kind: str, known: Options, where: str) -> Strategy:
    options = {key: value for key, value in table.items() if key != "name"}
    strategy = Strategy(name=text_of(table, "name", f"{where}: {kind}"), options=options)
    try:
        check_options(kind, known, strategy.name, options)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from error
    return strategy


def _workers(table: Mapping[str, Any], where: str) -> Workers:
    here = f"{where}: workers"
    only(table, ("heartbeat_seconds", "max_retries", "trial_timeout_seconds"), here, "key")
    return Workers(
        heartbeat_seconds=number_of(table, "heartbeat_seconds", here, default=5.0, above=0.0),
        max_retries=number_of(table, "max_retries", here, default=3, whole=True, low=0),
        trial_timeout_seconds=number_of(table, "trial_timeout_seconds", here, above=0.0),
    )
