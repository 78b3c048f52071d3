"""The networks as scikit-learn classifiers, trained by the loop that trains a study's trials.

    ANNClassifier(hidden_units=(256, 128), dropout=0.3, epochs=12).fit(images, labels)

They work wherever scikit-learn's own classifiers do: in a Pipeline, in cross_val_score, in
RandomizedSearchCV, HalvingRandomSearchCV (with `resource="epochs"`) and `StudySearchCV`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from fmnist_hpo.networks.classifier import NetworkClassifier

__all__ = ["ANNClassifier", "CNNClassifier"]

PerLayer = float | Sequence[float] | None


class ANNClassifier(NetworkClassifier):
    """Fully connected layers: linear, batch norm, activation, dropout; then the classifier.

    Its parameters are those of a study file with `family = "ann"`, with the same defaults. Those
    with a value per layer take one for all layers, or a sequence with one for each.

    Grey values (uint8) are normalised as in a study. Other real numbers are treated as float32
    images in some unit: `normalization="symmetric"` maps the range of the training data to (-1, 1),
    "standard" gives them mean 0 and deviation 1, one scale for all columns. A table whose columns
    have different units wants a StandardScaler in front, as for any network.

    Parameters
    ----------
    layers : int, default=None
        Number of hidden layers; None for the length of `hidden_units` or `dropout`, else 2.
    hidden_units : int or sequence of int, default=None
        None for 256, 128, 128, ...
    activation : {"relu", "leaky_relu", "gelu", "silu", "elu", "tanh"}
    batch_norm : bool
    dropout : float or sequence of float
    epochs : int
        The most, with `patience`.
    batch_size : int
    optimizer : {"adam", "adamw", "sgd"}
    learning_rate : float
        The peak, where a schedule varies it.
    momentum : float
        Of "sgd"; the others do not use it.
    weight_decay : float
    schedule : {"constant", "cosine", "one-cycle", "step"}
    label_smoothing : float
    flip : bool
    shift : int
        Pixels; what comes in is 0.
    erase : float
    normalization : {"symmetric", "standard"}
    precision : {"auto", "fp32", "bf16"}
        Of the training.
    validation_fraction : float, default=0.1
        Share of the samples, stratified, that is held out when `patience` is given.
    patience : int, default=None
        Epochs without a better accuracy on the held-out part after which training stops; the
        weights are then those of the best epoch. None trains all epochs on all samples.
    random_state : int, RandomState instance or None, default=None
        Decides first weights, order, augmentation, dropout and the held-out part.

    Attributes
    ----------
    classes_ : (classes,) array
    image_size_ : (rows, columns)
    history_ : tuple of EpochMetrics
        Loss and accuracy of each epoch.
    best_epoch_ : int
        The epoch whose weights are kept, from 1; the last one without `patience`.
    n_features_in_ : int
        Pixels of an image.
    """

    _family = "ann"
    _counters: ClassVar = {"hidden_units": "layers", "dropout": "layers"}

    def __init__(
        self,
        *,
        layers: int | None = None,
        hidden_units: PerLayer = None,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: PerLayer = 0.0,
        epochs: int = 10,
        batch_size: int = 64,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        label_smoothing: float = 0.0,
        flip: bool = False,
        shift: int = 0,
        erase: float = 0.0,
        normalization: str = "symmetric",
        precision: str = "auto",
        validation_fraction: float = 0.1,
        patience: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.layers = layers
        self.hidden_units = hidden_units
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.flip = flip
        self.shift = shift
        self.erase = erase
        self.normalization = normalization
        self.precision = precision
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state


class CNNClassifier(NetworkClassifier):
    """Blocks of convolutions (convolution, batch norm, activation), pooled, then a head.

    Its parameters are those of a study file with `family = "cnn"`, with the same defaults. Those
    with a value per layer take one for all layers, or a sequence with one for each. Where a number
    of columns is no square, as 10, a sample is taken for a row of pixels. See `ANNClassifier` for
    what is not listed here.

    Parameters
    ----------
    blocks : int, default=None
        None for the length of `channels` or `dropout`, else 2.
    channels : int or sequence of int, default=None
        None for 32, 64, 128, ...
    convolutions : int
        In each block, 1 or 2.
    kernel_size : {3, 5, 7}
    head : {"flatten", "average"}
    dense_layers : int, default=None
        None for the length of `dense_units`, else 1.
    dense_units : int or sequence of int, default=None
        None for 128 each.
    dense_dropout : float
    dropout : float or sequence of float
        After each block.
    """

    _family = "cnn"
    _counters: ClassVar = {"channels": "blocks", "dropout": "blocks", "dense_units": "dense_layers"}

    def __init__(
        self,
        *,
        blocks: int | None = None,
        channels: PerLayer = None,
        convolutions: int = 1,
        kernel_size: int = 3,
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: PerLayer = 0.0,
        head: str = "flatten",
        dense_layers: int | None = None,
        dense_units: PerLayer = None,
        dense_dropout: float = 0.0,
        epochs: int = 10,
        batch_size: int = 64,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        label_smoothing: float = 0.0,
        flip: bool = False,
        shift: int = 0,
        erase: float = 0.0,
        normalization: str = "symmetric",
        precision: str = "auto",
        validation_fraction: float = 0.1,
        patience: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.blocks = blocks
        self.channels = channels
        self.convolutions = convolutions
        self.kernel_size = kernel_size
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.head = head
        self.dense_layers = dense_layers
        self.dense_units = dense_units
        self.dense_dropout = dense_dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.flip = flip
        self.shift = shift
        self.erase = erase
        self.normalization = normalization
        self.precision = precision
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
