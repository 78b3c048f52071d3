"""Declared parameters, the conditions between them, and Optuna's distributions for them."""

import difflib
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.errors import SpecError

__all__ = ["Parameter", "Space", "Value", "parse_space"]

Value = bool | int | float | str
Choose = Callable[[str, BaseDistribution], Any]
MOST_EXACT = 2**53  # up to here every whole number is a float of its own


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One declared parameter: its range, and when it applies."""

    name: str
    distribution: BaseDistribution
    #: The parameter applies while each of these earlier parameters has one of its values.
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    #: An earlier integer parameter n: this one is then sampled n times, as name_0 ... name_{n-1}.
    for_each: str | None = None

    def instances(self, known: Mapping[str, Any]) -> list[str]:
        """The names under which this parameter is sampled, given the values known so far."""
        for parent, values in self.when.items():
            if parent not in known or known[parent] not in values:
                return []
        if self.for_each is None:
            return [self.name]
        return [f"{self.name}_{i}" for i in range(int(known.get(self.for_each, 0)))]


@dataclass(frozen=True)
class Space:
    """Parameters in the order in which they are declared, which is the order of their sampling."""

    parameters: tuple[Parameter, ...] = ()

    @property
    def conditional(self) -> bool:
        """Whether two trials may differ in which parameters they have."""
        return any(p.when or p.for_each for p in self.parameters)

    def walk(self, choose: Choose, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Ask `choose(name, distribution)` for each parameter that applies, in order."""
        known = dict(fixed)
        chosen: dict[str, Any] = {}
        for parameter in self.parameters:
            for name in parameter.instances(known):
                chosen[name] = known[name] = choose(name, parameter.distribution)
        return chosen

    def check(self, params: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> None:
        """Raise `SpecError` unless these parameters are one complete point of the space.

        Names that the space does not declare are let through: the problem judges them.
        """

        def take(name: str, distribution: BaseDistribution) -> Any:
            if name not in params:
                raise SpecError(f"{where}: {name} has no value; give one, {_range(distribution)}")
            value = params[name]
            if not _contains(distribution, value):
                raise SpecError(
                    f"{where}: {name} = {value!r} lies outside the space; {_range(distribution)}"
                )
            return value

        undeclared = {n: value for n, value in params.items() if self.owner(n) is None}
        used = self.walk(take, {**fixed, **undeclared})
        for name in params:
            parameter = self.owner(name)
            if parameter is not None and name not in used:
                raise SpecError(
                    f"{where}: {name} does not apply here; {_condition(parameter)}; remove it"
                )

    def owner(self, name: str) -> Parameter | None:
        """The parameter that a sampled name belongs to, or None."""
        for parameter in self.parameters:
            if name == parameter.name and parameter.for_each is None:
                return parameter
            if parameter.for_each and _is_instance(name, parameter):
                return parameter
        return None

    def probes(self, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Points that together touch both ends of every range and every choice."""
        yield self.walk(lambda _, d: _values(d)[0], fixed)
        yield self.walk(lambda _, d: _values(d)[-1], fixed)
        for parameter in self.parameters:
            for value in _values(parameter.distribution):
                stem = parameter.name

                def choose(name: str, d: BaseDistribution, stem: str = stem, v: Any = value) -> Any:
                    owner = self.owner(name)
                    return v if owner is not None and owner.name == stem else _values(d)[-1]

                yield self.walk(self._reaching(parameter, choose), fixed)

    def _reaching(self, target: Parameter, choose: Choose) -> Choose:
        """`choose`, but with whatever `target` depends on set so that it applies."""
        needed = self._needed(target)
        return lambda name, distribution: (
            needed[name][0] if needed.get(name) else choose(name, distribution)
        )

    def _needed(self, target: Parameter) -> dict[str, tuple[Value, ...]]:
        """The values by which a parameter applies, those of its parents' conditions included."""
        needed = dict(target.when)
        for parent in (*target.when, target.for_each):
            owner = self.owner(parent) if parent is not None else None
            if owner is not None:
                for name, values in self._needed(owner).items():
                    needed[name] = tuple(v for v in needed.get(name, values) if v in values)
        return needed

    def check_steps(self) -> None:
        """Raise `SpecError` if a float has no step, and so no finite number of values."""
        for parameter in self.parameters:
            distribution = parameter.distribution
            if isinstance(distribution, FloatDistribution) and distribution.step is None:
                raise SpecError(
                    f"the grid sampler needs finitely many values, and space.{parameter.name} is "
                    "a float without a step; add step = ... or list its values with choice"
                )

    def grid(self, fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every point of a finite space.

        Raises:
            SpecError: a float without a step has no finite number of values.
        """
        self.check_steps()
        points: list[dict[str, Any]] = [{}]
        for parameter in self.parameters:
            values = _grid_values(parameter.distribution)
            grown = []
            for point in points:
                names = parameter.instances({**fixed, **point})
                for combination in itertools.product(values, repeat=len(names)):
                    grown.append({**point, **dict(zip(names, combination, strict=True))})
            points = grown
        return points


def parse_space(table: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> Space:
    """Read the `[space]` table of a study file.

    Raises:
        SpecError: names the parameter, the rule, the value received and what to do.
    """
    parameters: list[Parameter] = []
    for name, declared in table.items():
        if name in fixed:
            raise SpecError(f"{where}: {name} stands in [fixed] and in [space]; keep one of them")
        parameters.append(_parameter(name, declared, parameters, fixed, f"{where}: space.{name}"))
    for parameter in parameters:
        taken = [name for name in (*fixed, *table) if _is_instance(name, parameter)]
        if parameter.for_each and taken:
            raise SpecError(
                f"{where}: {taken[0]} is a name under which {parameter.name} is sampled, for each "
                f"{parameter.for_each}; rename one of them, or leave {taken[0]} out"
            )
    return Space(tuple(parameters))


def _is_instance(name: str, parameter: Parameter) -> bool:
    """Whether it is `parameter`'s name with an index."""
    stem, _, index = name.rpartition("_")
    return stem == parameter.name and index.isdigit()


def _parameter(
    name: str, table: Any, earlier: list[Parameter], fixed: Mapping[str, Any], where: str
) -> Parameter:
    if not isinstance(table, dict):
        raise SpecError(
            f"{where} must be a table such as {{ float = [0.0, 0.5] }}, got {table!r}; "
            "a value that is not searched belongs in [fixed]"
        )
    kinds = [kind for kind in ("int", "float", "choice") if kind in table]
    if len(kinds) != 1:
        raise SpecError(f"{where} needs exactly one of int, float, choice, got {sorted(table)}")
    kind = kinds[0]
    allowed = {kind, "when", "for_each"} | ({"log", "step"} if kind != "choice" else set())
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(sorted(allowed))}"
            )
            raise SpecError(f"{where} has no key {key!r}; {hint}")
    known = {**{p.name: p for p in earlier}, **dict.fromkeys(fixed)}
    return Parameter(
        name=name,
        distribution=_choice(table, where) if kind == "choice" else _numeric(kind, table, where),
        when=_when(table.get("when", {}), known, where),
        for_each=_for_each(table.get("for_each"), known, fixed, where),
    )


def _choice(table: Mapping[str, Any], where: str) -> CategoricalDistribution:
    values = table["choice"]
    if not isinstance(values, list) or not values:
        raise SpecError(f"{where}: choice must be a list of at least one value, got {values!r}")
    for value in values:
        if not isinstance(value, bool | int | float | str):
            raise SpecError(
                f"{where}: a choice is a string, a number, true or false, got {value!r}; "
                "search the parts of a list as parameters of their own"
            )
        if isinstance(value, float) and not _is_finite(value):
            raise SpecError(f"{where}: a choice is a finite number, got {value!r}; remove it")
    if len(set(values)) != len(values):  # 1, 1.0 and true are equal, and Optuna takes them for one
        raise SpecError(
            f"{where}: choice lists a value twice, got {values!r}; remove one, or write texts"
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
        raise SpecError(f"{where}: {kind} must be [low, high], two {kind}s, got {bounds!r}")
    low, high = bounds
    log, step = table.get("log", False), table.get("step")
    if not all(map(_is_finite, bounds)):
        raise SpecError(
            f"{where}: {kind} must be [low, high], two finite numbers, got {bounds!r}; bound it"
        )
    if not low <= high:
        raise SpecError(f"{where}: need low <= high, got low={low}, high={high}; swap them")
    if not isinstance(log, bool):
        raise SpecError(f"{where}: log is true or false, got {log!r}")
    if log and low <= 0:
        raise SpecError(f"{where}: log = true needs low > 0, got low={low}; raise low or drop log")
    if step is not None:
        if (
            isinstance(step, bool)
            or not isinstance(step, number)
            or not (step > 0 and _is_finite(step))
        ):
            raise SpecError(f"{where}: step must be a positive {kind}, got {step!r}")
        if log:
            raise SpecError(f"{where}: log and step exclude each other, got both; drop one")
    if kind == "int" and max(map(abs, bounds)) > MOST_EXACT:
        raise SpecError(
            f"{where}: an int is stored as a float, exact from -2**53 to 2**53, got {bounds!r}; "
            "narrow the range"
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


def _is_finite(number: float) -> bool:
    return abs(number) <= sys.float_info.max  # exact for any int, false for NaN


def _when(table: Any, known: Mapping[str, Any], where: str) -> dict[str, tuple[Value, ...]]:
    if not isinstance(table, dict):
        raise SpecError(
            f'{where}: when must be a table such as {{ optimizer = "sgd" }}, got {table!r}'
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
            if owner is not None and not _contains(owner.distribution, value):
                raise SpecError(
                    f"{where}: when {parent} = {value!r} can never hold; "
                    f"{_range(owner.distribution)}"
                )
        conditions[parent] = values
    return conditions


def _for_each(
    parent: Any, known: Mapping[str, Any], fixed: Mapping[str, Any], where: str
) -> str | None:
    if parent is None:
        return None
    if not isinstance(parent, str):
        raise SpecError(f"{where}: for_each names an integer parameter, got {parent!r}")
    _must_be_known(parent, known, "for_each", where)
    owner = known[parent]
    if owner is None:
        whole = isinstance(fixed[parent], int) and not isinstance(fixed[parent], bool)
    else:
        whole = isinstance(owner.distribution, IntDistribution) and owner.for_each is None
    if not whole:
        raise SpecError(f"{where}: for_each needs an integer parameter, and {parent} is none")
    return parent


def _must_be_known(parent: str, known: Mapping[str, Any], key: str, where: str) -> None:
    if parent in known:
        return
    near = difflib.get_close_matches(parent, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "declare it above this one"
    raise SpecError(f"{where}: {key} names {parent!r}, which is not declared before it; {hint}")


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(type(c) is type(value) and c == value for c in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(distribution, IntDistribution) and not isinstance(value, int):
        return False
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def _range(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(repr, distribution.choices))}"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    step = distribution.step if distribution.step not in (None, 1) else None
    return f"from {distribution.low} to {distribution.high}" + (f" by {step}" if step else "")


def _condition(parameter: Parameter) -> str:
    parts = [
        f"{name} is {' or '.join(map(repr, values))}" for name, values in parameter.when.items()
    ]
    if parameter.for_each:
        parts.append(f"its index is below {parameter.for_each}")
    return "it applies only when " + " and ".join(parts)


def _values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]


def _grid_values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, FloatDistribution)
    assert distribution.step is not None
    low, high, step = distribution.low, distribution.high, distribution.step
    # The sum may be rounded to above `high`.
    return [min(high, low + i * step) for i in range(round((high - low) / step) + 1)]
