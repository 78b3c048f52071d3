"""Records of parameters: the rule, default and description of each stand at its field.

    @dataclass(frozen=True, kw_only=True)
    class Training:
        epochs: int = parameter(Integer(1, 10_000), 10, "Passes over the training images.")

        def __post_init__(self) -> None:
            check_fields(self)

The field is used to check values, to parse flat parameters (`read`), to generate the constructor
and documentation of a classifier (`constructor`), and for tables in the documentation (`rows`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from fmnist_hpo.errors import InputError
from fmnist_hpo.rules import Integer, Rule, suggest

__all__ = [
    "Count",
    "Parameter",
    "check_fields",
    "idle",
    "parameter",
    "parameters",
    "per_layer",
    "read",
    "refuse_idle",
    "refuse_misplaced",
    "rows",
    "split_index",
]

_KEY = "parameter"
_Record = TypeVar("_Record")


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of layers: a flat parameter that a record holds as the length of its tuples."""

    name: str
    rule: Integer
    default: int
    doc: str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The metadata of a field."""

    rule: Rule
    default: Any  # of a parameter per layer: the values of layer 0, 1, ...
    doc: str  # one sentence
    count: Count | None = None  # for a parameter per layer
    when: tuple[str, Any] | None = None  # (other name, value): has an effect only with that value

    @property
    def flat_default(self) -> Any:
        """The default as one value for all layers; None if the defaults of the layers differ."""
        if self.count is None:
            return self.default
        return self.default[0] if len(set(self.default)) == 1 else None


def parameter(rule: Rule, default: Any, doc: str, *, when: tuple[str, Any] | None = None) -> Any:
    """A dataclass field for a parameter with one value; a default of None makes it optional."""
    known = Parameter(rule=rule, default=default, doc=doc, when=when)
    return field(default=default, metadata={_KEY: known})


def per_layer(count: Count, rule: Rule, default: tuple[Any, ...], doc: str) -> Any:
    """A dataclass field for a parameter per layer, a tuple.

    Args:
        default: one value for each layer, for the highest number of layers.
    """
    known = Parameter(rule=rule, default=default, doc=doc, count=count)
    return field(default=default[: count.default], metadata={_KEY: known})


def parameters(kind: type) -> dict[str, Parameter]:
    """The parameters of a record by name, in the order of its fields."""
    return {one.name: one.metadata[_KEY] for one in fields(kind) if _KEY in one.metadata}


def check_fields(record: Any) -> None:
    """Check every parameter of a frozen record and convert it to its type (2 -> 2.0 for a float).

    Raises:
        InputError: a value breaks its rule, or tuples with the same count differ in length.
    """
    lengths: dict[str, tuple[str, int]] = {}
    for name, known in parameters(type(record)).items():
        value = getattr(record, name)
        if known.count is not None:
            value = _check_layers(name, known, value)
            first, length = lengths.setdefault(known.count.name, (name, len(value)))
            if len(value) != length:
                raise InputError(
                    f"{name} needs one value per {first} value, got {len(value)} for {length}; "
                    f"give {length}"
                )
        elif value is not None or known.default is not None:
            value = known.rule.check(name, value)
        object.__setattr__(record, name, value)


def _check_layers(name: str, known: Parameter, value: Any) -> tuple[Any, ...]:
    assert known.count is not None
    if not isinstance(value, tuple | list):
        raise InputError(f"{name} needs a list with one value per layer, got {value!r}")
    known.count.rule.check(known.count.name, len(value))
    return tuple(known.rule.check(f"{name}_{index}", one) for index, one in enumerate(value))


def read(kind: type[_Record], params: Mapping[str, Any]) -> _Record:
    """Build a record from flat parameters; names of other records are ignored.

    A parameter per layer is given once for all layers (`dropout`) or for each (`dropout_0`,
    `dropout_1`, ...).

    Raises:
        InputError: a value breaks its rule, or a layer's value is missing or has no layer.
    """
    values: dict[str, Any] = {}
    for name, known in parameters(kind).items():
        if known.count is not None:
            values[name] = _read_layers(params, name, known, known.count)
        elif name in params:
            values[name] = params[name]
    return kind(**values)


def _read_layers(
    params: Mapping[str, Any], name: str, known: Parameter, counted: Count
) -> tuple[Any, ...]:
    count = counted.rule.check(counted.name, params.get(counted.name, counted.default))
    given = [key for key in params if split_index(key)[0] == name and key != name]
    if not given:
        if name in params:
            return (known.rule.check(name, params[name]),) * count
        return tuple(known.default[:count])
    wanted = [f"{name}_{index}" for index in range(count)]
    for key in given:
        if key not in wanted:
            raise InputError(
                f"{key} is one too many: {counted.name}={count}"
                + (f" allows {wanted[0]} to {wanted[-1]}" if wanted else f" allows no {name}")
                + f"; leave {key} out or raise {counted.name}"
            )
    if name in params:
        raise InputError(
            f"{name} (for all) and {given[0]} (for one) exclude each other; give one kind only"
        )
    for key in wanted:
        if key not in params:
            raise InputError(
                f"{key} is missing: {counted.name}={count} needs {wanted[0]} to {wanted[-1]}; "
                f"add it, or give {name} once for all"
            )
    return tuple(params[key] for key in wanted)


def split_index(name: str) -> tuple[str, int | None]:
    """Split a flat name into name and layer: "dropout_1" -> ("dropout", 1), "x" -> ("x", None)."""
    match = re.fullmatch(r"(.+)_(\d+)", name, flags=re.ASCII)
    return (match[1], int(match[2])) if match else (name, None)


def refuse_idle(record: Any, params: Mapping[str, Any]) -> None:
    """Refuse parameters that have no effect beside the record's other values.

    Raises:
        InputError: one of `params` is such a parameter.
    """
    for name, known in parameters(type(record)).items():
        if name in params and known.when is not None:
            other, wanted = known.when
            found = getattr(record, other)
            if found != wanted:
                raise idle(name, other, (wanted,), found)


def idle(name: str, other: str, wanted: Sequence[Any], found: Any) -> InputError:
    """The error for a parameter that has no effect beside the present value of another.

    Args:
        wanted: the values of the other one beside which it has an effect.
    """
    listed = " and ".join(map(json.dumps, wanted))
    when = json.dumps(wanted[0] if len(wanted) == 1 else wanted)
    return InputError(
        f"{name} applies to {other} {listed} only, got {other} {json.dumps(found)}; leave it out, "
        f"or in a space add when = {{ {other} = {when} }}"
    )


def refuse_misplaced(
    params: Mapping[str, Any], family: str, families: Mapping[str, type], common: type
) -> None:
    """Refuse parameters that a family does not have.

    Args:
        families: the record of each family.
        common: a record that all families have beside their own.

    Raises:
        InputError: one of `params` is such a parameter.
    """
    names = {name: _names(kind) for name, kind in families.items()}
    known = {"family": False} | names[family] | _names(common)
    for name in params:
        base, index = split_index(name)
        if name in known or (index is not None and known.get(base)):
            continue  # an index is checked against the number of layers later
        for other, theirs in names.items():
            if name in theirs or (index is not None and theirs.get(base)):
                raise InputError(
                    f"{name} does not apply to family {family!r}; leave it out, or in a space add "
                    f'when = {{ family = "{other}" }}'
                )
        anywhere = base in known or any(base in theirs for theirs in names.values())
        hint = f"did you mean {base!r}?" if anywhere else suggest(base, known)
        listed = f"the known ones are {', '.join(known)}"
        raise InputError(f"unknown parameter {name!r}; {hint or listed}")


def _names(kind: type) -> dict[str, bool]:
    """The flat names of a record, counts included; True for a parameter per layer."""
    counts = {one.count.name: False for one in parameters(kind).values() if one.count is not None}
    return counts | {name: one.count is not None for name, one in parameters(kind).items()}


def rows(kind: type) -> Iterator[tuple[str, str, str, str]]:
    """Name, allowed values, default and description of each parameter, as rows of a table.

    A number of layers stands before its first parameter.
    """
    counted: set[str] = set()
    for name, known in parameters(kind).items():
        count = known.count
        if count is not None and count.name not in counted:
            counted.add(count.name)
            yield count.name, str(count.rule), str(count.default), count.doc
        default = known.flat_default
        if count is not None and default is None:
            shown = ", ".join(map(json.dumps, known.default[:3])) + ", ..."
        else:
            shown = "none" if default is None else json.dumps(default)
        doc = known.doc
        if known.when is not None:
            doc += f" Only with `{known.when[0]} = {json.dumps(known.when[1])}`."
        if count is not None:
            doc += " One value, or one for each layer."
        yield name, str(known.rule), shown, doc
