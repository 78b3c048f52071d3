"""A network as a scikit-learn classifier, trained by the loop that trains a study's trials."""

import contextlib
import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

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

_VALIDATION_FRACTION = Number(0.0, 1.0, open_high=True)
#: Parameters that no study file has, and their defaults.
_OWN: dict[str, Any] = {"validation_fraction": 0.1, "random_state": None}


class NetworkClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the classifiers. `class ANNClassifier(NetworkClassifier, network=ANNConfig)`.

    Constructor, signature and the `{parameters}` of the subclass's docstring come from the fields
    of the network's config and of `TrainingConfig`. What is fitted is a checkpoint and the network
    made of it.
    """

    classes_: NDArray[Any]
    image_size_: tuple[int, int]
    history_: tuple[training.EpochMetrics, ...]
    best_epoch_: int
    _config: ClassVar[type[NetworkConfig]]

    def __init_subclass__(
        cls, *, network: type[NetworkConfig] | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if network is not None:
            cls._config = network
            known = parameters(network) | parameters(TrainingConfig)
            cls.__init__ = _constructor(cls, _defaults(known))  # type: ignore[method-assign]
            if cls.__doc__ is not None:
                listed = "\n".join(_numpydoc(known))
                cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{parameters}", listed)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train from first weights.

        Parameters
        ----------
        X : (n, rows, columns), (n, 1, rows, columns) or (n, pixels), uint8 or any real numbers
        y : (n,), labels of any kind

        Raises
        ------
        ValueError
            Data or a parameter break a rule, or the loss is no longer finite. An earlier fit then
            remains in place.
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
            self._passes, self.history_ = 0, ()
            self._train(network, config, examples, part, seed)
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Train one more epoch, on these data and at the constant learning rate.

        The first call, unless `fit` came before, decides the shape of the images, the classes and
        the normalisation. `epochs`, `schedule` and `patience` do not apply.

        Parameters
        ----------
        X, y
            As for `fit`.
        classes
            All labels that will ever come; required in the first call.

        Raises
        ------
        ValueError
            As for `fit`; or `classes` are missing or others, or a label is not among them.
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
            config = replace(config, epochs=1, schedule="constant", patience=None)
            examples = self._examples(images, np.searchsorted(known, labels))
            part = split(examples, validation_fraction=0.0)
            start = None if first else self._checkpoint
            if first:
                self._scale = normalization(config.normalization, examples, part)
                self._passes, self.history_ = 0, ()
            seed = (self._draw_seed() + self._passes) % 2**31
            self._train(network, config, examples, part, seed, start)
            self._passes += 1
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """X as for `fit` -> (n, classes): the probability of each of `classes_`.

        Computed in float32, whatever the precision of the training.
        """
        check_is_fitted(self)
        images, _ = self._check(X, reset=False)
        mean, deviation = self._scale
        seen = Preprocessing(mean=mean, deviation=deviation, dtype=torch.float32)
        return softmax(compute_logits(self._network, seen, images))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """X as for `fit` -> (n,): the most probable of `classes_`."""
        probable = self.predict_proba(X).argmax(axis=1)
        predicted: NDArray[Any] = self.classes_[probable]
        return predicted

    @contextlib.contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Undo every assignment to attributes when the block fails or is interrupted."""
        before = dict(self.__dict__)
        try:
            with _value_errors():
                yield
        except BaseException:
            self.__dict__ = before
            raise

    def _train(
        self,
        network: NetworkConfig,
        config: TrainingConfig,
        examples: Examples,
        part: Split,
        seed: int,
        start: bytes | None = None,
    ) -> None:
        result = training.train(
            network,
            config,
            examples,
            part,
            seed=seed,
            start=start,
            preprocessing=Preprocessing.of(config, *self._scale),
        )
        self.best_epoch_, self._checkpoint = result.kept, result.checkpoint
        self.history_ = (*self.history_, *result.history)
        self._network_config = network
        self._build()

    @torch_defaults()
    def _build(self) -> None:
        """Make the network of the checkpoint, ready to predict."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.device("meta"):  # draws no weights: they are loaded below
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
        """Read the parameters as a study file's are read."""
        given = self.get_params()
        known = parameters(self._config) | parameters(TrainingConfig)
        params: dict[str, Any] = {"family": self._config.family}
        for name, value in given.items():
            one = known.get(name)
            if name in _OWN:
                continue
            if one is not None and one.when is not None and given[one.when[0]] != one.when[1]:
                continue  # it has no effect, and a study file refuses it
            if (
                one is not None
                and one.count is not None
                and isinstance(value, Sequence | np.ndarray)
            ):
                params |= {f"{name}_{index}": _plain(each) for index, each in enumerate(value)}
                if given[one.count.name] is None:
                    params.setdefault(one.count.name, len(value))
            elif value is not None:
                params[name] = _plain(value)
        return parse(params)

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _split(self, examples: Examples, seed: int) -> Split:
        """What is trained on and, with patience, what is held out."""
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
        """Images (n, rows, columns), uint8 or float32, and labels (n,) where there are some.

        A table of a square number of columns is one of square images, any other one of rows.
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
            X = np.asarray(X).reshape(shape[0], -1)
        checked = validate_data(self, X, y, reset=reset, dtype=[np.float32, np.uint8])
        table, labels = checked if isinstance(checked, tuple) else (checked, np.empty(0))
        size = shape[1:] if len(shape) == 3 else _image_size(table.shape[1])
        if y is not None and not isinstance(y, str):
            check_classification_targets(labels)
        if reset:
            self.image_size_ = size
        elif len(shape) == 3 and size != self.image_size_:
            raise ValueError(
                f"need images of {self.image_size_}, as were trained on, got {size}; scale them"
            )
        return np.ascontiguousarray(table).reshape(-1, *self.image_size_), labels


def _defaults(known: dict[str, Parameter]) -> dict[str, Any]:
    """The constructor's parameters and defaults. A number of layers follows from the values."""
    defaults: dict[str, Any] = {}
    for name, one in known.items():
        if one.count is not None:
            defaults.setdefault(one.count.name, None)
        defaults[name] = one.flat_default
    return defaults | _OWN


def _constructor(cls: type, defaults: dict[str, Any]) -> Any:
    """An `__init__` with these keyword-only parameters, which it stores as scikit-learn wants."""
    keyword, itself = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [
            inspect.Parameter("self", itself),
            *(inspect.Parameter(name, keyword, default=defaults[name]) for name in defaults),
        ]
    )

    def __init__(self: Any, *args: Any, **params: Any) -> None:
        bound = signature.bind(self, *args, **params)  # raises TypeError as a call does
        for name, default in defaults.items():
            setattr(self, name, bound.arguments.get(name, default))

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__module__ = cls.__module__
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def _numpydoc(known: dict[str, Parameter]) -> Iterator[str]:
    """The entries of a docstring's section Parameters."""
    counted: set[str] = set()
    for name, one in known.items():
        if one.count is not None and one.count.name not in counted:
            counted.add(one.count.name)
            yield f"{one.count.name} : int, default=None"
            yield f"    {one.count.doc} None for one per given value, else {one.count.default}."
        kind, default = one.rule.python_type, one.flat_default
        sequence = f" or sequence of {kind}" if one.count is not None else ""
        yield f"{name} : {kind}{sequence}, default={default!r}"
        series = one.count is not None and default is None
        yield f"    {one.doc}" + (
            f" None for {', '.join(map(str, one.default[:3]))}, ..." if series else ""
        )


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    """Raise what scikit-learn expects of data and parameters that cannot be used."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from error
    except training.Diverged as error:
        raise ValueError(f"{error}; use a smaller learning_rate") from error


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _image_size(pixels: int) -> tuple[int, int]:
    side = math.isqrt(pixels)
    return (side, side) if side * side == pixels else (1, pixels)
