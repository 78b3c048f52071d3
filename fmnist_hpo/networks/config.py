"""The hyperparameters of a network and of its training, as validated records.

A hyperparameter is one field of a record. Study files, stored networks, checkpoints, the
scikit-learn classifiers and the tables of the documentation follow from the field.

Torch is not imported, so that a study file can be checked quickly. The size of the images and the
number of classes belong to the data set, not to these records.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from fmnist_hpo.errors import InputError
from fmnist_hpo.parameters import (
    Count,
    check_fields,
    parameter,
    parameters,
    per_layer,
    read,
    refuse_idle,
    refuse_misplaced,
)
from fmnist_hpo.rules import Choice, Integer, Number

__all__ = [
    "FAMILIES",
    "ANNConfig",
    "CNNConfig",
    "NetworkConfig",
    "TrainingConfig",
    "from_json",
    "parse",
]

#: Share of the epochs after which images that are resized have their full size. Progressive
#: resizing is of Howard 2018, "Training Imagenet in 3 hours for $25; and CIFAR10 for $0.26".
GROWTH = 2 / 3
_FLAG = Choice((True, False))
_PROBABILITY_BELOW_ONE = Number(0.0, 1.0, open_high=True)
_ACTIVATION = Choice(("relu", "leaky_relu", "gelu", "silu", "elu", "tanh"))

_LAYERS = Count(name="layers", rule=Integer(1, 6), default=2, doc="Hidden layers.")
_BLOCKS = Count(name="blocks", rule=Integer(1, 5), default=2, doc="Blocks of convolutions.")
_DENSE_LAYERS = Count(
    name="dense_layers",
    rule=Integer(0, 3),
    default=1,
    doc="Dense layers between the last block and the output layer.",
)


@dataclass(frozen=True, kw_only=True)
class ANNConfig:
    """A multilayer perceptron: each hidden layer is linear, batch norm, activation, dropout.

    Raises:
        InputError: a value breaks its rule.
    """

    family: ClassVar = "ann"

    hidden_units: tuple[int, ...] = per_layer(
        _LAYERS, Integer(1, 16384), (256, 128, 128, 128, 128, 128), "Units of a hidden layer."
    )
    dropout: tuple[float, ...] = per_layer(
        _LAYERS, _PROBABILITY_BELOW_ONE, (0.0,) * 6, "Dropout probability after a hidden layer."
    )
    activation: str = parameter(_ACTIVATION, "relu", "Nonlinearity of the hidden layers.")
    batch_norm: bool = parameter(
        _FLAG, False, "Batch normalisation between each linear layer and its activation."
    )
    batch_norm_scale: bool = parameter(
        _FLAG, True, "Whether batch normalisation learns a scale.", when=("batch_norm", True)
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def to_json(self) -> str:
        """The record as JSON, as it is stored and exported; `from_json` reads it."""
        return _to_json(self)


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """A convolutional network: blocks of "same" convolutions and pooling, then a dense head.

    A block is one to three times convolution, batch norm, activation; with 2x2 max-pooling after
    the last or the first of them, while the map is at least 2x2; then dropout. With shortcuts, each
    convolution of a block but the first adds to what enters it: activation(x + batch
    norm(convolution(x))). The head flattens the last map, or averages each channel, and adds dense
    layers before the output layer.

    Raises:
        InputError: a value breaks its rule.
    """

    family: ClassVar = "cnn"

    channels: tuple[int, ...] = per_layer(
        _BLOCKS, Integer(1, 2048), (32, 64, 128, 128, 128), "Channels of a block's convolutions."
    )
    dropout: tuple[float, ...] = per_layer(
        _BLOCKS, _PROBABILITY_BELOW_ONE, (0.0,) * 5, "Dropout probability after a block's pooling."
    )
    convolutions: int = parameter(Integer(1, 3), 1, "Convolutions in each block.")
    shortcut: bool = parameter(
        _FLAG,
        False,
        "Identity shortcuts around the convolutions of a block but the first; needs two of them.",
    )
    pool_after: str = parameter(
        Choice(("first", "last")),
        "last",
        "The convolution of a block that pooling follows. After the first, the others see a "
        "quarter of the pixels and take a quarter of the time.",
    )
    kernel_size: int = parameter(Choice((3, 5, 7)), 3, "Height and width of the kernels in pixels.")
    activation: str = parameter(
        _ACTIVATION, "relu", "Nonlinearity of the convolutions and dense layers."
    )
    batch_norm: bool = parameter(
        _FLAG, False, "Batch normalisation between each convolution and its activation."
    )
    batch_norm_scale: bool = parameter(
        _FLAG, True, "Whether batch normalisation learns a scale.", when=("batch_norm", True)
    )
    whitening: bool = parameter(
        _FLAG,
        False,
        "A first layer of fixed 2x2 filters, 4 and their negatives, that whiten the patches of the "
        "training images; only its bias is trained.",
    )
    init: str = parameter(
        Choice(("default", "identity")),
        "default",
        "Weights of a convolution at the start: torch's, or those that pass the first channels on.",
    )
    head: str = parameter(
        Choice(("flatten", "average")),
        "flatten",
        "What the dense layers see: the whole map of the last block, or each channel's mean.",
    )
    dense_units: tuple[int, ...] = per_layer(
        _DENSE_LAYERS, Integer(1, 16384), (128,) * 3, "Units of a dense layer."
    )
    dense_dropout: float = parameter(
        _PROBABILITY_BELOW_ONE, 0.0, "Dropout probability after each dense layer."
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.shortcut and self.convolutions < 2:
            raise InputError(
                "shortcut needs convolutions >= 2, got convolutions=1; leave shortcut out, or in a "
                "space add when = { convolutions = [2, 3] }"
            )

    def map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The rows and columns of the map that enters the first block.

        Raises:
            InputError: the images are too small.
        """
        if self.whitening and min(image_size) < 2:
            raise InputError(
                f"whitening needs images of at least 2x2, got {image_size}; leave whitening out"
            )
        return image_size[0] - self.whitening, image_size[1] - self.whitening

    def to_json(self) -> str:
        """The record as JSON, as it is stored and exported; `from_json` reads it."""
        return _to_json(self)


NetworkConfig = ANNConfig | CNNConfig
FAMILIES: Mapping[str, type[NetworkConfig]] = {kind.family: kind for kind in (ANNConfig, CNNConfig)}
_FAMILY = Choice(tuple(FAMILIES))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Raises:
        InputError: a value breaks its rule.
    """

    epochs: int = parameter(
        Integer(1, 10_000), 10, "Passes over the training images; with `patience`, at most so many."
    )
    batch_size: int = parameter(
        Integer(2, 65_536),  # batch normalisation needs two images
        64,
        "Images in a step.",
    )
    optimizer: str = parameter(
        Choice(("adam", "adamw", "sgd", "schedule-free", "muon")),
        "adam",
        "Rule by which a step changes the weights. schedule-free is AdamW without a horizon: every "
        "epoch is a valid end. muon makes the steps of kernels and hidden layers orthogonal.",
    )
    learning_rate: float = parameter(
        Number(0.0, 1000.0, open_low=True), 1e-3, "Step size; the peak where a schedule varies it."
    )
    momentum: float = parameter(
        _PROBABILITY_BELOW_ONE,
        0.9,
        "Share of the previous step that is added to a step.",
        when=("optimizer", "sgd"),
    )
    average: float = parameter(
        _PROBABILITY_BELOW_ONE,
        0.0,
        "Decay in each step of the running average of the weights that is evaluated; 0: none.",
    )
    weight_decay: float = parameter(
        Number(0.0, 10.0), 0.0, "L2 penalty of adam and sgd, decoupled decay of the others."
    )
    schedule: str = parameter(
        Choice(("constant", "cosine", "one-cycle", "step")),
        "constant",
        "How the learning rate changes over the steps of all epochs; schedule-free takes constant "
        "only.",
    )
    label_smoothing: float = parameter(
        _PROBABILITY_BELOW_ONE, 0.0, "Share of each label spread evenly over the classes."
    )
    flip: bool = parameter(_FLAG, False, "Mirror an image left-right with probability 1/2.")
    flip_in_turn: bool = parameter(
        _FLAG,
        False,
        "Mirror each image in every other epoch; chance decides its first one only.",
        when=("flip", True),
    )
    shift: int = parameter(
        Integer(0, 14), 0, "Largest random displacement of an image per axis, in pixels."
    )
    erase: float = parameter(
        Number(0.0, 1.0), 0.0, "Probability that a random square of an image is blanked."
    )
    resize: float = parameter(
        Number(0.25, 1.0),
        1.0,
        "Side of the images in the first epoch, as a share of the full one. It grows evenly and is "
        "full after two thirds of the epochs; small images are trained on faster. Only for a cnn "
        'with head = "average".',
    )
    mixup: float = parameter(
        Number(0.0, 100.0),
        0.0,
        "Parameter of the beta distribution by which images and labels are mixed in pairs; 0: no "
        "mixing.",
    )
    normalization: str = parameter(
        Choice(("symmetric", "standard")),
        "symmetric",
        "Scale of the images: to [-1, 1], or to mean 0 and deviation 1 over the training part.",
    )
    precision: str = parameter(
        Choice(("auto", "fp32", "bf16")),
        "auto",
        "Number format of the matrix products; auto is bf16 where that is faster.",
    )

    report_every: float = parameter(
        Choice((1.0, 0.5, 0.25, 0.2, 0.125, 0.1)),
        1.0,
        "Share of an epoch after which the network is validated, reported and saved: a trial's "
        "step.",
    )
    patience: int | None = parameter(
        Integer(1, 10_000),
        None,
        "Epochs without a better validation accuracy after which training stops; the result is "
        "then the best epoch's.",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.optimizer == "schedule-free" and self.schedule != "constant":
            raise InputError(
                'optimizer "schedule-free" takes schedule "constant" only, got '
                f"{json.dumps(self.schedule)}; leave schedule out"
            )
        if self.optimizer == "schedule-free" and self.average:
            raise InputError(
                'optimizer "schedule-free" has an average of its own, got '
                f"average={self.average:g}; leave average out"
            )

    def scale(self, epoch: int) -> float:
        """The side of the images in an epoch, counted from 0, as a share of the full one."""
        return min(1.0, self.resize + (1 - self.resize) * epoch / (self.epochs * GROWTH))

    @property
    def relative_cost(self) -> float:
        """The pixels that are trained on, as a share of those at full size throughout."""
        return sum(self.scale(epoch) ** 2 for epoch in range(self.epochs)) / self.epochs

    @property
    def reports_per_epoch(self) -> int:
        """The number of reports in an epoch."""
        return round(1 / self.report_every)

    @property
    def steps(self) -> int:
        """The number of reports of a whole training."""
        return self.epochs * self.reports_per_epoch

    def batches(self, images: int) -> int:
        """The number of batches in an epoch.

        Args:
            images: that train; at least one.

        Raises:
            InputError: there are fewer batches than reports.
        """
        size = min(self.batch_size, images)
        count = images // size
        if count < self.reports_per_epoch:
            raise InputError(
                f"report_every={self.report_every:g} needs at least {self.reports_per_epoch} "
                f"batches in an epoch, got {count} of batch_size={size} with {images:,} training "
                "images; use a smaller batch_size or more images, or leave report_every out"
            )
        return count


def _to_json(config: NetworkConfig) -> str:
    return json.dumps({"family": config.family} | asdict(config))


def from_json(text: str) -> NetworkConfig:
    """Read what `to_json` wrote, also with an earlier version that had fewer parameters.

    Raises:
        InputError: the text is not JSON, is no such object, or a value breaks its rule.
    """
    try:
        values = json.loads(text)
        family = values.pop("family")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise InputError(
            f"a network is a JSON object with a 'family', got {text[:80]!r}; "
            "use what to_json() wrote"
        ) from None
    kind = FAMILIES[_FAMILY.check("family", family)]
    known = parameters(kind)
    needed = {name for name, one in known.items() if one.count is not None}
    if not needed <= values.keys() <= known.keys():
        raise InputError(
            f"a stored {family} has {', '.join(known)}, got {', '.join(values) or 'none of them'}; "
            "use what to_json() wrote"
        )
    return kind(**values)


def parse(params: Mapping[str, Any]) -> tuple[NetworkConfig, TrainingConfig]:
    """Convert the flat parameters of a study file or a trial to the two records.

    Everything but `family` has a default. A parameter per layer, such as `dropout`, is given once
    for all layers or as `dropout_0`, `dropout_1`, ...

    Raises:
        InputError: a name is unknown or does not apply, a layer is missing, or a value breaks its
            rule.
    """
    if "family" not in params:
        raise InputError('family is missing; set it to "ann" or "cnn"')
    family = _FAMILY.check("family", params["family"])
    refuse_misplaced(params, family, FAMILIES, TrainingConfig)
    training = read(TrainingConfig, params)
    refuse_idle(training, params)
    network = read(FAMILIES[family], params)
    refuse_idle(network, params)
    if training.resize < 1 and not (isinstance(network, CNNConfig) and network.head == "average"):
        raise InputError(
            'resize needs a network that takes images of any size: a cnn with head = "average", '
            f"got resize={training.resize:g}; leave resize out, or set that head"
        )
    return network, training
