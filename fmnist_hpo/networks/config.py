"""What a trial is: the network and how it is trained, from flat parameters to checked records.

Free of torch, so that a study file can be checked without importing it. The size of the images and
the number of classes are the data set's and not in here.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from fmnist_hpo.errors import InputError
from fmnist_hpo.rules import Choice, Integer, Number, Rule

__all__ = ["ANNConfig", "CNNConfig", "NetworkConfig", "TrainingConfig", "from_json", "parse"]


_FLAG = Choice((True, False))
_PROBABILITY_BELOW_ONE = Number(0.0, 1.0, open_high=True)

_FAMILY = Choice(("ann", "cnn"))
_LAYERS, _BLOCKS, _DENSE_LAYERS = Integer(1, 6), Integer(1, 5), Integer(0, 3)
_SHARED: dict[str, Rule] = {  # of both families
    "activation": Choice(("relu", "leaky_relu", "gelu", "silu", "elu", "tanh")),
    "batch_norm": _FLAG,
    "dropout": _PROBABILITY_BELOW_ONE,
}
_ANN: dict[str, Rule] = _SHARED | {
    "layers": _LAYERS,
    "hidden_units": Integer(1, 16384),
}
_CNN: dict[str, Rule] = _SHARED | {
    "blocks": _BLOCKS,
    "channels": Integer(1, 2048),
    "convolutions": Integer(1, 2),
    "kernel_size": Choice((3, 5, 7)),
    "head": Choice(("flatten", "average")),
    "dense_layers": _DENSE_LAYERS,
    "dense_units": Integer(1, 16384),
    "dense_dropout": _PROBABILITY_BELOW_ONE,
}
_TRAINING: dict[str, Rule] = {
    "epochs": Integer(1, 10_000),
    "batch_size": Integer(2, 65_536),  # batch normalisation needs two images
    "optimizer": Choice(("adam", "adamw", "sgd")),
    "learning_rate": Number(0.0, 1000.0, open_low=True),
    "momentum": _PROBABILITY_BELOW_ONE,
    "weight_decay": Number(0.0, 10.0),
    "schedule": Choice(("constant", "cosine", "one-cycle", "step")),
    "label_smoothing": _PROBABILITY_BELOW_ONE,
    "flip": _FLAG,
    "shift": Integer(0, 14),
    "erase": Number(0.0, 1.0),
    "normalization": Choice(("symmetric", "standard")),
    "precision": Choice(("auto", "fp32", "bf16")),
}
# Parameters with one value per layer: given once for all, or as name_0, name_1, ...
_PER_LAYER = {
    "ann": {"hidden_units": "layers", "dropout": "layers"},
    "cnn": {"channels": "blocks", "dropout": "blocks", "dense_units": "dense_layers"},
}


def _check(record: Any, rules: Mapping[str, Rule]) -> None:
    """Check and normalise every field of a record being built (2 -> 2.0 where a number is due)."""
    for field in fields(record):
        value, rule = getattr(record, field.name), rules[field.name]
        if isinstance(value, tuple | list):
            checked: Any = tuple(
                rule.check(f"{field.name}_{index}", one) for index, one in enumerate(value)
            )
        else:
            checked = rule.check(field.name, value)
        object.__setattr__(record, field.name, checked)


def _check_lengths(count: str, rule: Integer, **values: tuple[Any, ...]) -> None:
    (first, reference), *others = values.items()
    rule.check(count, len(reference))
    for name, value in others:
        if len(value) != len(reference):
            raise InputError(
                f"{name} needs one value per {first} value, got {len(value)} for {len(reference)}; "
                f"give {len(reference)}"
            )


@dataclass(frozen=True, kw_only=True)
class ANNConfig:
    """Fully connected layers: linear, batch norm, activation, dropout; then the classifier.

    Raises:
        InputError: a value breaks its rule.
    """

    hidden_units: tuple[int, ...] = (256, 128)
    dropout: tuple[float, ...] = (0.0, 0.0)  # after each layer
    activation: str = "relu"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        _check(self, _ANN)
        _check_lengths("layers", _LAYERS, hidden_units=self.hidden_units, dropout=self.dropout)

    def to_json(self) -> str:
        """What is stored and exported; `from_json` reads it back."""
        return _to_json("ann", self)


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """Blocks of 'same' convolutions (convolution, batch norm, activation), pooled, then a head.

    Each block ends with 2x2 max-pooling as long as the map is at least 2 wide, and dropout. The
    head flattens the map, or averages each channel, and adds dense layers before the classifier.

    Raises:
        InputError: a value breaks its rule.
    """

    channels: tuple[int, ...] = (32, 64)
    dropout: tuple[float, ...] = (0.0, 0.0)  # after each block's pooling
    convolutions: int = 1  # in each block
    kernel_size: int = 3
    activation: str = "relu"
    batch_norm: bool = False
    head: str = "flatten"
    dense_units: tuple[int, ...] = (128,)
    dense_dropout: float = 0.0  # after each dense layer

    def __post_init__(self) -> None:
        _check(self, _CNN)
        _check_lengths("blocks", _BLOCKS, channels=self.channels, dropout=self.dropout)
        _DENSE_LAYERS.check("dense_layers", len(self.dense_units))

    def to_json(self) -> str:
        """What is stored and exported; `from_json` reads it back."""
        return _to_json("cnn", self)


NetworkConfig = ANNConfig | CNNConfig


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Raises:
        InputError: a value breaks its rule.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3  # the peak, where a schedule varies it
    momentum: float = 0.9  # of sgd; the others do not use it
    weight_decay: float = 0.0
    schedule: str = "constant"
    label_smoothing: float = 0.0
    flip: bool = False  # mirror left-right, each image with probability 1/2
    shift: int = 0  # pixels, the most in each direction
    erase: float = 0.0  # probability that a rectangle of an image is blanked
    normalization: str = "symmetric"  # to (-1, 1), or "standard": training mean and deviation
    precision: str = "auto"

    def __post_init__(self) -> None:
        _check(self, _TRAINING)


def _to_json(family: str, config: NetworkConfig) -> str:
    return json.dumps({"family": family} | asdict(config))


def from_json(text: str) -> NetworkConfig:
    """Read what `to_json` wrote.

    Raises:
        InputError: not JSON, not such an object, or a value breaks its rule.
    """
    try:
        values = json.loads(text)
        family = values.pop("family")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError(
            f"a network is a JSON object with a 'family', got {text[:80]!r}; "
            "use what to_json() wrote"
        ) from None
    _FAMILY.check("family", family)
    kind: type[NetworkConfig] = ANNConfig if family == "ann" else CNNConfig
    names = [field.name for field in fields(kind)]
    if sorted(values) != sorted(names):
        raise InputError(
            f"a stored {family} has exactly {', '.join(names)}, got {', '.join(values)}; "
            "use what to_json() wrote"
        )
    for name in _PER_LAYER[family]:
        if not isinstance(values[name], list):
            raise InputError(
                f"{name} of a stored {family} is a list, got {values[name]!r}; "
                "use what to_json() wrote"
            )
    return kind(**values)


def parse(params: Mapping[str, Any]) -> tuple[NetworkConfig, TrainingConfig]:
    """Flat parameters, as they stand in study files and trials, to the two records.

    Everything but `family` has a default. `hidden_units`, `channels`, `dense_units` and `dropout`
    are given once for all layers or as `hidden_units_0`, `hidden_units_1`, ...

    Raises:
        InputError: an unknown name, a name that does not apply, a missing layer, a bad value.
    """
    if "family" not in params:
        raise InputError('family is missing; set it to "ann" or "cnn"')
    family = _FAMILY.check("family", params["family"])
    _refuse_misplaced(params, family)
    build = _ann if family == "ann" else _cnn
    training = TrainingConfig(**{name: params[name] for name in _TRAINING if name in params})
    if "momentum" in params and training.optimizer != "sgd":
        raise InputError(
            f'momentum applies to optimizer "sgd" only, got optimizer "{training.optimizer}"; '
            'leave it out, or in a space add when = { optimizer = "sgd" }'
        )
    return build(params), training


def _refuse_misplaced(params: Mapping[str, Any], family: str) -> None:
    own, other, other_family = (_ANN, _CNN, "cnn") if family == "ann" else (_CNN, _ANN, "ann")
    per_layer = _PER_LAYER[family]
    for name in params:
        match = re.fullmatch(r"(.+)_(\d+)", name)
        base = match[1] if match else name
        if match and base in per_layer:
            continue  # its index is checked against the number of layers
        if not match and (name == "family" or name in own or name in _TRAINING):
            continue
        if base in other and (not match or base in _PER_LAYER[other_family]):
            raise InputError(
                f"{name} does not apply to family {family!r}; leave it out, or in a space add "
                f'when = {{ family = "{other_family}" }}'
            )
        known = ["family", *own, *_TRAINING]
        near = [base] if base in other else []
        near = near or difflib.get_close_matches(base, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"the known ones are {', '.join(known)}"
        raise InputError(f"unknown parameter {name!r}; {hint}")


def _ann(params: Mapping[str, Any]) -> ANNConfig:
    layers = _LAYERS.check("layers", params.get("layers", 2))
    defaults = (256, 128, 128, 128, 128, 128)
    return ANNConfig(
        hidden_units=_per_layer(params, _ANN, "hidden_units", "layers", layers, defaults),
        dropout=_per_layer(params, _ANN, "dropout", "layers", layers, (0.0,) * layers),
        **{name: params[name] for name in ("activation", "batch_norm") if name in params},
    )


def _cnn(params: Mapping[str, Any]) -> CNNConfig:
    blocks = _BLOCKS.check("blocks", params.get("blocks", 2))
    dense = _DENSE_LAYERS.check("dense_layers", params.get("dense_layers", 1))
    plain = _CNN.keys() - {"blocks", "dense_layers", *_PER_LAYER["cnn"]}
    return CNNConfig(
        channels=_per_layer(params, _CNN, "channels", "blocks", blocks, (32, 64, 128, 128, 128)),
        dropout=_per_layer(params, _CNN, "dropout", "blocks", blocks, (0.0,) * blocks),
        dense_units=_per_layer(params, _CNN, "dense_units", "dense_layers", dense, (128,) * dense),
        **{name: params[name] for name in plain if name in params},
    )


def _per_layer(
    params: Mapping[str, Any],
    rules: Mapping[str, Rule],
    name: str,
    counter: str,
    count: int,
    defaults: tuple[Any, ...],
) -> tuple[Any, ...]:
    """One value per layer, from `name` for all of them or from name_0 ... name_{count-1}."""
    given = [key for key in params if re.fullmatch(rf"{name}_\d+", key)]
    if not given:
        if name in params:
            return (rules[name].check(name, params[name]),) * count
        return defaults[:count]
    wanted = [f"{name}_{index}" for index in range(count)]
    for key in given:
        if key not in wanted:
            raise InputError(
                f"{key} is one too many: {counter}={count}"
                + (f" allows {wanted[0]} to {wanted[-1]}" if wanted else f" allows no {name}")
                + f"; leave {key} out or raise {counter}"
            )
    if name in params:
        raise InputError(
            f"{name} (for all) and {given[0]} (for one) exclude each other; give one kind only"
        )
    for key in wanted:
        if key not in params:
            raise InputError(
                f"{key} is missing: {counter}={count} needs {wanted[0]} to {wanted[-1]}; "
                f"add it, or give {name} once for all"
            )
    return tuple(params[key] for key in wanted)
