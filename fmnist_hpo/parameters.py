"""Records whose fields are parameters: rule, default and description stand at the field.

    @dataclass(frozen=True, kw_only=True)
    class Training:
        epochs: int = parameter(Integer(1, 10_000), 10, "Passes over the training images.")

        def __post_init__(self) -> None:
            check_fields(self)

From the field come the check of its value, the parsing of flat parameters (`read`), a classifier's
constructor and documentation, and the tables of the documentation (`rows`).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from fmnist_hpo.errors import InputError
from fmnist_hpo.rules import Integer, Rule

__all__ = [
    "Count",
    "Parameter",
    "check_fields",
    "parameter",
    "parameters",
    "per_layer",
    "read",
    "refuse_idle",
    "rows",
    "split_index",
]

_KEY = "parameter"
_Record = TypeVar("_Record")


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of layers. It is a parameter too; a record holds it as the length of its tuples."""

    name: str
    rule: Integer
    default: int
    doc: str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a field's metadata says."""

    rule: Rule
    default: Any  # of a parameter per layer: the values of layer 0, 1, ...
    doc: str  # one sentence
    count: Count | None = None  # the number of values; None for a single value
    when: tuple[str, Any] | None = None  # name and value of the parameter that this one refines

    @property
    def flat_default(self) -> Any:
        """The default given once for all layers; None where the layers' defaults differ."""
        if self.count is None:
            return self.default
        return self.default[0] if len(set(self.default)) == 1 else None


def parameter(rule: Rule, default: Any, doc: str, *, when: tuple[str, Any] | None = None) -> Any:
    """A dataclass field with one value; a default of None makes it optional."""
    known = Parameter(rule=rule, default=default, doc=doc, when=when)
    return field(default=default, metadata={_KEY: known})


def per_layer(count: Count, rule: Rule, default: tuple[Any, ...], doc: str) -> Any:
    """A dataclass field with a tuple, one value for each layer.

    Args:
        default: as many values as there can be layers.
    """
    known = Parameter(rule=rule, default=default, doc=doc, count=count)
    return field(default=default[: count.default], metadata={_KEY: known})


def parameters(kind: type) -> dict[str, Parameter]:
    """The parameters of a record by name, in the order of its fields."""
    return {one.name: one.metadata[_KEY] for one in fields(kind) if _KEY in one.metadata}


def check_fields(record: Any) -> None:
    """Check and normalise every parameter of a frozen record (2 -> 2.0 where a number is due).

    Raises:
        InputError: a value breaks its rule, or tuples of one count differ in length.
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
    """Build a record from flat parameters; names that are not its own are passed over.

    A parameter per layer is given once for all layers (`dropout`) or for each (`dropout_0`,
    `dropout_1`, ...).

    Raises:
        InputError: a layer is missing or one too many, or a value breaks its rule.
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
    """A flat name without its layer, and the layer: "dropout_1" -> ("dropout", 1)."""
    match = re.fullmatch(r"(.+)_(\d+)", name, flags=re.ASCII)
    return (match[1], int(match[2])) if match else (name, None)


def refuse_idle(record: Any, params: Mapping[str, Any]) -> None:
    """Raise `InputError` for a given parameter that the record's other values make idle."""
    for name, known in parameters(type(record)).items():
        if name in params and known.when is not None:
            other, wanted = known.when
            found = getattr(record, other)
            if found != wanted:
                raise InputError(
                    f"{name} applies to {other} {json.dumps(wanted)} only, got {other} "
                    f"{json.dumps(found)}; leave it out, or in a space add "
                    f"when = {{ {other} = {json.dumps(wanted)} }}"
                )


def rows(kind: type) -> Iterator[tuple[str, str, str, str]]:
    """Name, allowed values, default and description of each parameter, for a table.

    A count stands before the first parameter that it counts.
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
