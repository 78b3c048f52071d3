"""What a study aims at, what trials must keep (`[constraints]`), and `[confirm]`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import SpecError
from search.spec.keys import keys_of
from search.spec.values import check_table, shown, value_of
from search.text import figure

__all__ = [
    "CONFIRMING",
    "Aim",
    "Confirm",
    "Constraint",
    "parse_aims",
    "parse_confirm",
    "parse_constraints",
]

MOST_AIMS = 2
CONFIRMING = "-confirm"  # behind the name of a study: the name of the one that confirms it
MOST_NAME = 80  # characters of a study with [confirm], as a number may follow as well


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A metric and whether a larger or a smaller value is better."""

    name: str
    direction: str  # "maximize" or "minimize"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """Bounds of a metric, both included; at least one of them is given."""

    name: str
    low: float | None = None
    high: float | None = None

    def excess(self, value: float) -> float:
        """How far a value lies outside; 0 or less: it is kept. Optuna's sign convention."""
        outside = []
        if self.high is not None:
            outside.append(value - self.high)
        if self.low is not None:
            outside.append(self.low - value)
        return max(outside)

    def __str__(self) -> str:
        parts = [] if self.low is None else [f"{self.name} >= {figure(self.low)}"]
        parts += [] if self.high is None else [f"{self.name} <= {figure(self.high)}"]
        return " and ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Confirm:
    """How the best trials are trained again after the search, to choose the winner."""

    top: int  # how many of them
    seeds: int  # repeats of each
    reshuffled: bool  # whether each repeat also has a split of its own


def parse_aims(given: Mapping[str, Any], where: str) -> tuple[Aim, ...]:
    """One or two aims from the keys `metric` and `direction`, or from `metrics`.

    Args:
        given: the values of the top of the file, by key.

    Raises:
        SpecError: both or none are given, or `metrics` is no list of one or two metrics.
    """
    tables, name, direction = given["metrics"], given["metric"], given["direction"]
    if tables is None:
        for key, value, example in (
            ("metric", name, '"..."'),
            ("direction", direction, '"maximize"'),
        ):
            if value is None:
                raise SpecError(f"{where}: {key} is missing; add {key} = {example}")
        return (Aim(name=name, direction=direction),)
    if name is not None or direction is not None:
        raise SpecError(
            f"{where}: metrics stands for metric and direction, got both; remove "
            f"{'metric' if name is not None else 'direction'}"
        )
    if not 1 <= len(tables) <= MOST_AIMS:
        raise SpecError(
            f"{where}: metrics lists one or {MOST_AIMS} metrics, got {len(tables)}; a limit on a "
            "further one belongs in [constraints]"
        )
    keys, aims = keys_of("metrics"), []
    for index, table in enumerate(tables):
        here = f"{where}: metrics[{index}]"
        check_table(table, f"metrics[{index}]", keys, where)
        aims.append(Aim(**{key: value_of(table, keys[key], here) for key in keys}))
    if len({aim.name for aim in aims}) < len(aims):
        raise SpecError(f"{where}: metrics lists {aims[0].name!r} twice; remove one")
    return tuple(aims)


def parse_confirm(
    table: Mapping[str, Any] | None,
    *,
    study: str,
    aims: int,
    folds: int | None,
    trials: int,
    where: str,
) -> Confirm | None:
    """The table `[confirm]`; None where there is none.

    Args:
        study: the name of the study.
        aims: the number of metrics.
        folds: of a cross-validation; None: one part is held out.
        trials: of the budget.

    Raises:
        SpecError: names the key, the rule, the value received and what to do.
    """
    if table is None:
        return None
    keys = keys_of("confirm")
    check_table(table, "confirm", keys, where)
    given = {name: value_of(table, key, f"{where}: confirm") for name, key in keys.items()}
    if aims > 1:
        raise SpecError(
            f"{where}: [confirm] chooses one trial by the mean of one metric, got two metrics; "
            "remove it, or make one of the metrics a constraint"
        )
    if folds is not None:
        raise SpecError(
            f"{where}: [confirm] trains again on a held-out part, got a cross-validation, whose "
            f"{folds} folds are a mean already; remove it, or leave mode out"
        )
    if given["top"] > trials:
        raise SpecError(
            f"{where}: confirm.top is a number of the budget's trials: need at most {trials}, got "
            f"{given['top']}; lower it, or raise budget.trials"
        )
    if len(study) > MOST_NAME:
        raise SpecError(
            f"{where}: a study with [confirm] has a name of at most {MOST_NAME} characters, as "
            f"{CONFIRMING} is added to it, got {len(study)}; shorten it"
        )
    return Confirm(
        top=given["top"], seeds=given["seeds"], reshuffled=given["splits"] == "reshuffled"
    )


def parse_constraints(table: Mapping[str, Any], where: str) -> tuple[Constraint, ...]:
    """The table `[constraints]`.

    Raises:
        SpecError: names the metric, the rule, the value received and what to do.
    """
    keys, found = keys_of("constraints.NAME"), []
    for name, bounds in table.items():
        if not name.isprintable() or not 0 < len(name) <= 200:
            raise SpecError(
                f"{where}: constraints: a metric's name is 1 to 200 printable characters, got "
                f"{shown(name)}; rename it"
            )
        here = f"{where}: constraints.{name}"
        if not isinstance(bounds, Mapping) or not bounds:
            raise SpecError(f"{here} must be a table such as {{ max = 0.2 }}, got {shown(bounds)}")
        check_table(bounds, f"constraints.{name}", keys, where)
        low, high = (value_of(bounds, keys[key], here) for key in ("min", "max"))
        if low is not None and high is not None and low > high:
            raise SpecError(f"{here}: need min <= max, got min={low}, max={high}; swap them")
        found.append(Constraint(name=name, low=low, high=high))
    return tuple(found)
