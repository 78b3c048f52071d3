"""Reads the `[space]` table of a study file."""

import warnings
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.errors import SpecError, nearest
from search.spec.keys import keys_of, unknown_key
from search.spec.space import Parameter, Space, Value, contains, is_instance, range_text
from search.spec.values import check_parameter_name, is_finite, shown

__all__ = ["parse_space"]

MOST_EXACT = 2**53  # up to here every whole number is a float of its own
MOST_CHOICES = 1_000
MOST_PARAMETERS = 1_000  # of one trial, those of for_each included
_MANY = f"a trial has at most {MOST_PARAMETERS:,} parameters"


def parse_space(table: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> Space:
    """Read the `[space]` table of a study file.

    Raises:
        SpecError: names the parameter, the rule, the value received and what to do.
    """
    parameters: list[Parameter] = []
    if len(table) > MOST_PARAMETERS:
        raise SpecError(f"{where}: {_MANY}, got {len(table):,}; declare fewer in [space]")
    for name, declared in table.items():
        check_parameter_name(name, where)
        if name in fixed:
            raise SpecError(f"{where}: {name} stands in [fixed] and in [space]; keep one of them")
        parameters.append(_parameter(name, declared, parameters, fixed, where))
    for parameter in (each for each in parameters if each.for_each):
        taken = [name for name in (*fixed, *table) if is_instance(name, parameter)]
        if taken:
            raise SpecError(
                f"{where}: {taken[0]} is a name under which {parameter.name} is sampled, for each "
                f"{parameter.for_each}; rename one of them, or leave {taken[0]} out"
            )
    names = sum(_most_instances(parameter, parameters, fixed) for parameter in parameters)
    if names > MOST_PARAMETERS:
        raise SpecError(
            f"{where}: {_MANY}, got up to {names:,} with for_each; lower the number it counts with"
        )
    return Space(tuple(parameters))


def _most_instances(
    parameter: Parameter, parameters: list[Parameter], fixed: Mapping[str, Any]
) -> int:
    """The largest number of names under which a parameter is sampled."""
    if parameter.for_each is None:
        return 1
    if parameter.for_each in fixed:
        return int(fixed[parameter.for_each])
    (parent,) = (each for each in parameters if each.name == parameter.for_each)
    assert isinstance(parent.distribution, IntDistribution)
    return parent.distribution.high


def _parameter(
    name: str, table: Any, earlier: list[Parameter], fixed: Mapping[str, Any], file: str
) -> Parameter:
    where = f"{file}: space.{name}"
    if not isinstance(table, dict):
        raise SpecError(
            f"{where} must be a table such as {{ float = [0.0, 0.5] }}, got {shown(table)}; "
            "a value that is not searched belongs in [fixed]"
        )
    kinds = [kind for kind in ("int", "float", "choice") if kind in table]
    if len(kinds) != 1:
        got = shown(sorted(table))
        raise SpecError(f"{where} needs exactly one of int, float, choice, got {got}")
    kind = kinds[0]
    allowed = {kind, "when", "for_each", "default"} | (
        {"log", "step"} if kind != "choice" else set()
    )
    known_keys = {key: rule for key, rule in keys_of("space.NAME").items() if key in allowed}
    for key in table:
        if key not in allowed:
            raise SpecError(unknown_key(key, f"space.{name}", known_keys, file))
    known = {**{p.name: p for p in earlier}, **dict.fromkeys(fixed)}
    distribution = _choice(table, where) if kind == "choice" else _numeric(kind, table, where)
    return Parameter(
        name=name,
        distribution=distribution,
        when=_when(table.get("when", {}), known, where),
        for_each=_for_each(table.get("for_each"), known, fixed, where),
        default=_default(table["default"], distribution, where) if "default" in table else None,
    )


def _default(value: Any, distribution: BaseDistribution, where: str) -> Value:
    if not contains(distribution, value):
        raise SpecError(
            f"{where}: default = {shown(value)} lies outside the space; {range_text(distribution)}"
        )
    found: Value = float(value) if isinstance(distribution, FloatDistribution) else value
    return found


def _choice(table: Mapping[str, Any], where: str) -> CategoricalDistribution:
    values = table["choice"]
    if not isinstance(values, list) or not values:
        raise SpecError(
            f"{where}: choice must be a list of at least one value, got {shown(values)}"
        )
    if len(values) > MOST_CHOICES:
        raise SpecError(
            f"{where}: choice lists at most {MOST_CHOICES:,} values, got {len(values):,}; search a "
            "number with int or float"
        )
    for value in values:
        if not isinstance(value, bool | int | float | str):
            raise SpecError(
                f"{where}: a choice is a string, a number, true or false, got {shown(value)}; "
                "search the parts of a list as parameters of their own"
            )
        if isinstance(value, float) and not is_finite(value):
            raise SpecError(f"{where}: a choice is a finite number, got {value!r}; remove it")
    if len(set(values)) != len(values):  # 1, 1.0 and true are equal, and Optuna takes them for one
        raise SpecError(
            f"{where}: choice lists a value twice, got {shown(values)}; remove one, or write texts"
        )
    return CategoricalDistribution(values)


def _numeric(kind: str, table: Mapping[str, Any], where: str) -> BaseDistribution:
    bounds = table[kind]
    number = (int,) if kind == "int" else (int, float)
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or any(isinstance(b, bool) or not isinstance(b, number) for b in bounds)
    ):
        raise SpecError(f"{where}: {kind} must be [low, high], two {kind}s, got {shown(bounds)}")
    low, high = bounds
    log, step = table.get("log", False), table.get("step")
    if not all(map(is_finite, bounds)):
        raise SpecError(
            f"{where}: {kind} must be [low, high], two finite numbers, got {shown(bounds)}"
        )
    if not low <= high:
        raise SpecError(f"{where}: need low <= high, got low={low}, high={high}; swap them")
    if not isinstance(log, bool):
        raise SpecError(f"{where}: log is true or false, got {shown(log)}")
    if log and low <= 0:
        raise SpecError(f"{where}: log = true needs low > 0, got low={low}; raise low or drop log")
    if step is not None:
        if (
            isinstance(step, bool)
            or not isinstance(step, number)
            or not (step > 0 and is_finite(step))
        ):
            raise SpecError(f"{where}: step must be a positive {kind}, got {shown(step)}")
        if log:
            raise SpecError(f"{where}: log and step exclude each other, got both; drop one")
    span = float(high) / low if log else float(high) - float(low)
    if not is_finite(span):
        raise SpecError(
            f"{where}: {'high / low' if log else 'high - low'} must be a number that a float can "
            f"hold, got {bounds!r}; narrow the range"
        )
    if kind == "int" and max(map(abs, bounds)) > MOST_EXACT:
        raise SpecError(
            f"{where}: an int is stored as a float, exact from -2**53 to 2**53, got {bounds!r}; "
            "narrow the range"
        )
    if step is not None and float(high) - float(low) > MOST_EXACT * step:
        raise SpecError(
            f"{where}: a range has at most 2**53 steps, got {bounds!r} by {step}; raise step, or "
            "leave it out"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna's, of what is refused here
        found: IntDistribution | FloatDistribution
        if kind == "int":
            found = IntDistribution(low, high, log=log, step=int(step or 1))
        else:
            found = FloatDistribution(float(low), float(high), log=log, step=step)
    if found.high != high:
        raise SpecError(
            f"{where}: need high = low + a multiple of step, got {bounds!r} by {step}; "
            f"write [{found.low}, {found.high}]"
        )
    return found


def _when(table: Any, known: Mapping[str, Any], where: str) -> dict[str, tuple[Value, ...]]:
    if not isinstance(table, dict):
        raise SpecError(
            f'{where}: when must be a table such as {{ optimizer = "sgd" }}, got {shown(table)}'
        )
    conditions: dict[str, tuple[Value, ...]] = {}
    for parent, wanted in table.items():
        _must_be_known(parent, known, "when", where)
        values = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        owner = known[parent]
        if not values:
            raise SpecError(
                f"{where}: when {parent} = [] can never hold; list a value, or leave it out"
            )
        if owner is not None and owner.for_each is not None:
            raise SpecError(
                f"{where}: when names {parent!r}, which is sampled for each {owner.for_each} and "
                "has no value of its own; name a parameter that is sampled once"
            )
        for value in values:
            if owner is not None and not contains(owner.distribution, value):
                raise SpecError(
                    f"{where}: when {parent} = {shown(value)} can never hold; "
                    f"{range_text(owner.distribution)}"
                )
        conditions[parent] = values
    return conditions


def _for_each(
    parent: Any, known: Mapping[str, Any], fixed: Mapping[str, Any], where: str
) -> str | None:
    if parent is None:
        return None
    if not isinstance(parent, str):
        raise SpecError(f"{where}: for_each names an integer parameter, got {shown(parent)}")
    _must_be_known(parent, known, "for_each", where)
    owner = known[parent]
    if owner is None:
        whole = isinstance(fixed[parent], int) and not isinstance(fixed[parent], bool)
    else:
        whole = isinstance(owner.distribution, IntDistribution) and owner.for_each is None
    if not whole:
        raise SpecError(f"{where}: for_each needs an integer parameter, and {parent} is none")
    low, high = _bounds_of(owner, fixed[parent] if owner is None else None)
    if not 0 <= low <= high <= MOST_PARAMETERS:
        raise SpecError(
            f"{where}: for_each counts from 0 to {MOST_PARAMETERS:,} at most, got {parent} from "
            f"{low:,} to {high:,}; narrow {parent}"
        )
    return parent


def _bounds_of(owner: Parameter | None, fixed: int | None) -> tuple[int, int]:
    if owner is None:
        assert fixed is not None
        return fixed, fixed
    assert isinstance(owner.distribution, IntDistribution)
    return owner.distribution.low, owner.distribution.high


def _must_be_known(parent: str, known: Mapping[str, Any], key: str, where: str) -> None:
    if parent in known:
        return
    near = nearest(parent, known)
    hint = f"did you mean {near!r}?" if near else "declare it above this one"
    raise SpecError(
        f"{where}: {key} names {shown(parent)}, which is not declared before it; {hint}"
    )
