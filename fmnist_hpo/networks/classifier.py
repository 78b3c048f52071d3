"""Networks as scikit-learn classifiers, trained by the same loop as the trials of a study."""

import contextlib
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fmnist_hpo.constructor import arguments, constructor, describe, to_flat
from fmnist_hpo.data import Examples, Split, split
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import softmax
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import NetworkConfig, TrainingConfig, parse
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.preprocessing import Preprocessing, compute_logits, normalization
from fmnist_hpo.networks.process import torch_defaults
from fmnist_hpo.parameters import Parameter, parameters
from fmnist_hpo.rules import Number

__all__ = ["NetworkClassifier"]

_SMALLER = "use a smaller learning_rate"
_LOOKED_AT = 1_000  # training images, to see whether the trained network's outputs are finite
_VALIDATION_FRACTION = Number(0.0, 1.0, open_high=True)
#: Arguments of the constructor that are no hyperparameters, and their defaults.
_OWN: dict[str, Any] = {"validation_fraction": 0.1, "random_state": None}


class NetworkClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of the classifiers: `class ANNClassifier(NetworkClassifier, network=ANNConfig)`.

    The constructor and the `{parameters}` in the subclass's docstring are generated from the fields
    of the network's record and of `TrainingConfig`. The fitted state is a checkpoint; the network
    is built from it, so that a classifier can be pickled.
    """

    classes_: NDArray[Any]
    image_size_: tuple[int, int]
    history_: tuple[training.EpochMetrics, ...]
    best_epoch_: float
    _config: ClassVar[type[NetworkConfig]]
    _known: ClassVar[Mapping[str, Parameter]]

    def __init_subclass__(
        cls, *, network: type[NetworkConfig] | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if network is not None:
            cls._config = network
            cls._known = parameters(network) | parameters(TrainingConfig)
            defaults = arguments(cls._known) | _OWN
            cls.__init__ = constructor(cls, defaults)  # type: ignore[method-assign]
            if cls.__doc__ is not None:
                listed = describe(cls._known)
                cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{parameters}", listed)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train a new network.

        Parameters
        ----------
        X : array of shape (n, rows, columns), (n, 1, rows, columns) or (n, pixels)
            Images, as uint8 or any real numbers.
        y : array of shape (n,)
            Labels of any type that NumPy can sort.

        Raises
        ------
        ValueError
            The data or a parameter break a rule, or the loss is no longer finite. The classifier
            then keeps the state of its earlier fit.
        """
        with self._whole_or_not_at_all():
            network, config = self._parse()
            images, labels = self._check(X, y)
            self.classes_, encoded = np.unique(labels, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"need labels of at least 2 classes, got 1 class, {self.classes_}")
            seed = self._draw_seed()
            examples = self._examples(images, encoded)
            part = self._split(examples, seed)
            self._scale = normalization(config.normalization, examples, part)
            self._begin()
            self._train(network, config, examples, part, seed)
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Train for one more epoch on the given data, at a constant learning rate.

        The first call sets the size of the images, the classes and the normalisation, unless the
        classifier is fitted already. `epochs`, `schedule`, `resize`, `patience` and
        `report_every` have no effect.

        Parameters
        ----------
        X, y
            As for `fit`.
        classes
            All labels of this and of later calls; required in the first call.

        Raises
        ------
        ValueError
            As for `fit`; or `classes` is missing in the first call, differs from that of the first
            call, or lacks a label of `y`.
        """
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("need classes in the first call of partial_fit, got None")
        with self._whole_or_not_at_all():
            network, config = self._parse()
            images, labels = self._check(X, y, reset=first)
            known = np.unique(classes) if classes is not None else self.classes_
            if not first and not np.array_equal(known, self.classes_):
                raise ValueError(
                    f"need the classes of the first call, {self.classes_}, got classes={classes!r}"
                )
            if not np.isin(labels, known).all():
                strange = np.setdiff1d(labels, known)
                raise ValueError(f"need labels among the classes {known}, got {strange}")
            self.classes_ = known
            config = replace(
                config, epochs=1, schedule="constant", resize=1.0, patience=None, report_every=1.0
            )
            examples = self._examples(images, np.searchsorted(known, labels))
            part = split(examples, validation_fraction=0.0)
            start = None if first else self._checkpoint
            if first:
                self._scale = normalization(config.normalization, examples, part)
                self._begin()
            seed = (self._draw_seed() + self._passes) % 2**31
            self._train(network, config, examples, part, seed, start)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, computed in float32.

        Parameters
        ----------
        X
            As for `fit`.

        Returns
        -------
        array of shape (n, classes), float64
            The columns are in the order of `classes_`.
        """
        check_is_fitted(self)
        images, _ = self._check(X, reset=False)
        mean, deviation = self._scale
        seen = Preprocessing(mean=mean, deviation=deviation, dtype=torch.float32)
        logits = compute_logits(self._network, seen, images)
        if not np.isfinite(logits).all():
            raise ValueError(f"outputs of the network are not finite for these images; {_SMALLER}")
        return softmax(logits)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each image, an array of shape (n,)."""
        probable = self.predict_proba(X).argmax(axis=1)
        predicted: NDArray[Any] = self.classes_[probable]
        return predicted

    @contextlib.contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Restore every attribute when the block fails or is interrupted.

        Raises:
            ValueError: scikit-learn's convention for data and parameters that cannot be used.
        """
        before = dict(self.__dict__)
        try:
            yield
        except BaseException as error:
            self.__dict__ = before
            if isinstance(error, InputError):
                raise ValueError(str(error)) from error
            if isinstance(error, training.Diverged):
                raise ValueError(f"{error}; {_SMALLER}") from error
            raise

    def _begin(self) -> None:
        """Forget what was trained before."""
        self._passes, self.history_, self._kept, self.best_epoch_ = 0, (), 0, 0

    def _train(
        self,
        network: NetworkConfig,
        config: TrainingConfig,
        examples: Examples,
        part: Split,
        seed: int,
        start: bytes | None = None,
    ) -> None:
        seen = Preprocessing.of(config, *self._scale)
        result = training.train(
            network,
            config,
            examples,
            part,
            seed=seed,
            start=start,
            preprocessing=seen,
        )
        per_epoch = config.reports_per_epoch
        kept = result.kept if per_epoch == 1 else result.kept / per_epoch
        self.best_epoch_ += kept
        self._checkpoint = result.checkpoint
        # What came after the kept epoch is no part of the training that goes on.
        self.history_ = (*self.history_[: self._kept], *result.history)
        self._kept += result.kept
        self._passes += 1
        self._network_config = network
        self._build()
        # The loss of the last epoch was taken before its last step.
        if not np.isfinite(compute_logits(self._network, seen, examples.images[:_LOOKED_AT])).all():
            raise training.Diverged("outputs of the trained network are not finite")

    @torch_defaults()
    def _build(self) -> None:
        """Build the network of the checkpoint, in evaluation mode."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.device("meta"):  # without initial weights: they are loaded below
            network = build(
                self._network_config, image_size=self.image_size_, classes=len(self.classes_)
            )
        network.load_state_dict(training.weights(self._checkpoint), assign=True)
        self._network = network.to(device).to(memory_format=torch.channels_last).eval()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_network", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "_checkpoint"):
            self._build()

    def _parse(self) -> tuple[NetworkConfig, TrainingConfig]:
        """Read the parameters by the rules of a study file."""
        flat = to_flat(self._known, self.get_params())
        return parse({"family": self._config.family} | flat)

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _split(self, examples: Examples, seed: int) -> Split:
        """Hold out a validation part when `patience` is given, else none."""
        if self.patience is None:
            return split(examples, validation_fraction=0.0, seed=seed)
        fraction = _VALIDATION_FRACTION.check("validation_fraction", self.validation_fraction)
        part = split(examples, validation_fraction=fraction, seed=seed)
        if not len(part.validation):
            raise InputError(
                f"need at least one sample to validate, got none of {len(examples.labels)} with "
                f"validation_fraction={fraction}; raise it, or set patience=None"
            )
        return part

    def _examples(self, images: NDArray[Any], encoded: NDArray[Any]) -> Examples:
        return Examples(
            images=images,
            labels=encoded.astype(np.int64),
            classes=tuple(map(str, self.classes_)),
            hashes={},
        )

    def _check(
        self, X: Any, y: Any = "no_validation", *, reset: bool = True
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Validate data as scikit-learn does.

        Args:
            reset: set `image_size_` and `n_features_in_`; otherwise X must agree with them.

        Returns:
            Images (n, rows, columns), uint8 or float32, and labels (n,), empty when y is not given.
            A table (n, pixels) is read as square images when `pixels` is a square number, else as
            images of one row.
        """
        X = X if hasattr(X, "shape") else np.asarray(X)
        shape = tuple(X.shape)
        if len(shape) > 2:
            if len(shape) == 4 and shape[1] == 1:
                shape = (shape[0], *shape[2:])
            if len(shape) != 3 or min(shape[1:]) < 1:
                raise ValueError(
                    "need X of shape (n, rows, columns), (n, 1, rows, columns) or (n, pixels), "
                    f"got {X.shape}"
                )
            X = np.asarray(X).reshape(shape[0], math.prod(shape[1:]))
        checked = validate_data(self, X, y, reset=reset, dtype=[np.float32, np.uint8])
        table, labels = checked if isinstance(checked, tuple) else (checked, np.empty(0))
        size = shape[1:] if len(shape) == 3 else _image_size(table.shape[1])
        if y is not None and not isinstance(y, str):
            check_classification_targets(labels)
        if reset:
            self.image_size_ = size
        elif len(shape) == 3 and size != self.image_size_:
            raise ValueError(
                f"need images of {self.image_size_}, the size in training, got {size}; resize them"
            )
        return np.ascontiguousarray(table).reshape(-1, *self.image_size_), labels


def _image_size(pixels: int) -> tuple[int, int]:
    side = math.isqrt(pixels)
    return (side, side) if side * side == pixels else (1, pixels)
