"""Declared parameters, the conditions between them, and Optuna's distributions for them."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.errors import SpecError, nearest
from search.spec.values import equal, shown

__all__ = ["Parameter", "Space", "Value", "contains", "is_instance", "range_text"]

Value = bool | int | float | str
Choose = Callable[[str, BaseDistribution], Any]
MOST_SHOWN = 20  # choices that a message lists


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One declared parameter: its range, and when it applies."""

    name: str
    distribution: BaseDistribution
    #: The parameter applies while each of these earlier parameters has one of its values.
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    #: An earlier integer parameter n: this one is then sampled n times, as name_0 ... name_{n-1}.
    for_each: str | None = None
    #: Its value in the trial `defaults`.
    default: Value | None = None

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

    def overridden(self, params: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of a trial with some replaced, without those that apply no longer.

        One value for all layers replaces those of each.

        Args:
            params: of a trial, those that are not searched included.
            overrides: the new values; they need not lie in the space.

        Raises:
            SpecError: a new value is no whole number where the space has one.
        """
        known = {**params, **overrides}
        for parameter in self.parameters:
            new = overrides.get(parameter.name)
            if (
                new is not None
                and isinstance(parameter.distribution, IntDistribution)
                and (isinstance(new, bool) or not isinstance(new, int))
            ):
                raise SpecError(f"{parameter.name} must be a whole number, got {shown(new)}")
            one_for_all = parameter.for_each is not None and new is not None
            applies = [] if one_for_all else parameter.instances(known)
            for name in known.keys() - overrides.keys() - set(applies):
                if name == parameter.name or (parameter.for_each and is_instance(name, parameter)):
                    del known[name]
        return known

    def walk(self, choose: Choose, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Ask `choose(name, distribution)` for each parameter that applies, in order."""
        known = dict(fixed)
        chosen: dict[str, Any] = {}
        for parameter in self.parameters:
            for name in parameter.instances(known):
                chosen[name] = known[name] = choose(name, parameter.distribution)
        return chosen

    def complete(
        self, params: Mapping[str, Any], fixed: Mapping[str, Any], where: str
    ) -> dict[str, Any]:
        """These parameters, and those that apply and have one value only.

        Names that the space does not declare are let through: the problem judges them.

        Raises:
            SpecError: they are no point of the space.
        """

        def take(name: str, distribution: BaseDistribution) -> Any:
            if name not in params:
                near = nearest(name, [given for given in params if self.owner(given) is None])
                if near:
                    raise SpecError(
                        f"{where}: {name} has no value, and {near}, which has one, is not in the "
                        "space; give both the same name"
                    )
                if distribution.single():
                    return _values(distribution)[0]
                raise SpecError(
                    f"{where}: {name} has no value; give one, {range_text(distribution)}"
                )
            value = params[name]
            if not contains(distribution, value):
                raise SpecError(
                    f"{where}: {name} = {shown(value)} lies outside the space; "
                    f"{range_text(distribution)}"
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
        return {**params, **used}

    def defaults(self, fixed: Mapping[str, Any]) -> dict[str, Any] | None:
        """The point where each parameter has its default, or its only value.

        None where no parameter has a default.

        Raises:
            SpecError: a parameter of many values without a default applies at this point.
        """
        if all(parameter.default is None for parameter in self.parameters):
            return None

        def take(name: str, distribution: BaseDistribution) -> Any:
            owner = self.owner(name)
            assert owner is not None
            if owner.default is not None:
                return owner.default
            if distribution.single():
                return _values(distribution)[0]
            raise SpecError(
                f"space.{owner.name} has no default and applies where the others have theirs; "
                f"add default = ..., {range_text(distribution)}, or remove the other defaults"
            )

        return self.walk(take, fixed)

    def check_given(self, params: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
        """Raise `SpecError` unless these are parameters of a point, the others of which are free.

        What a parameter depends on must be given with it, or be fixed.
        """
        if not params:
            raise SpecError("need at least one parameter with its value, got none")
        known = {**fixed, **params}
        for name, value in params.items():
            parameter = self.owner(name)
            if parameter is None:
                raise SpecError(self._undeclared(name, fixed))
            if not contains(parameter.distribution, value):
                raise SpecError(
                    f"{name} = {shown(value)} lies outside the space; "
                    f"{range_text(parameter.distribution)}"
                )
            for parent in (*parameter.when, *filter(None, [parameter.for_each])):
                if parent not in known:
                    raise SpecError(f"{name}: {_condition(parameter)}; give {parent} as well")
            if name not in parameter.instances(known):
                raise SpecError(f"{name} does not apply here; {_condition(parameter)}; remove it")

    def _undeclared(self, name: str, fixed: Mapping[str, Any]) -> str:
        if name in fixed:
            return f"{name} is fixed at {shown(fixed[name])} and is not searched; leave it out"
        names = [f"{p.name}_0" if p.for_each else p.name for p in self.parameters]
        near = nearest(name, names)
        hint = f"did you mean {near!r}?" if near else f"it has {', '.join(names) or 'none'}"
        return f"the space has no parameter {name!r}; {hint}"

    def point_of(
        self, params: Mapping[str, Any], fixed: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The searched part of a configuration; None where the space does not contain it.

        Args:
            params: every parameter of the configuration.
            fixed: what is not searched, with the values that it must have.
        """
        inside = True

        def take(name: str, distribution: BaseDistribution) -> Any:
            nonlocal inside
            value = params.get(name)
            inside = inside and contains(distribution, value)
            return value if inside else _values(distribution)[0]

        point = self.walk(take, fixed)
        return point if inside and equal({**fixed, **point}, params) else None

    @cached_property
    def _by_stem(self) -> Mapping[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    def owner(self, name: str) -> Parameter | None:
        """The parameter that a sampled name belongs to, or None."""
        parameter = self._by_stem.get(name)
        if parameter is not None and parameter.for_each is None:
            return parameter
        stem, _, index = name.rpartition("_")
        parameter = self._by_stem.get(stem)
        if parameter is not None and parameter.for_each and index.isdigit():
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


def is_instance(name: str, parameter: Parameter) -> bool:
    """Whether a name is that of the parameter with an index, such as units_0."""
    stem, _, index = name.rpartition("_")
    return stem == parameter.name and index.isdigit()


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value of a study file is one of a distribution; types count, true is not 1."""
    if isinstance(distribution, CategoricalDistribution):
        return any(type(c) is type(value) and c == value for c in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(distribution, IntDistribution) and not isinstance(value, int):
        return False
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not distribution.low <= value <= distribution.high:
        return False
    if distribution.step is None:
        return True
    if isinstance(distribution, IntDistribution):
        return (value - distribution.low) % distribution.step == 0
    steps = (value - distribution.low) / distribution.step
    return abs(steps - round(steps)) < 1e-8  # as Optuna judges it


def range_text(distribution: BaseDistribution) -> str:
    """The values of a distribution, for a message."""
    if isinstance(distribution, CategoricalDistribution):
        few = [shown(value) for value in distribution.choices[:MOST_SHOWN]]
        more = ", ..." if len(distribution.choices) > MOST_SHOWN else ""
        return f"one of {', '.join(few)}{more}"
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
