"""What scikit-learn asks of a classifier, done by a network and the loop of a study's trials."""

import contextlib
import math
import threading
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
from fmnist_hpo.networks.loop import VALIDATION_BATCH
from fmnist_hpo.networks.models import build
from fmnist_hpo.networks.preprocessing import Preprocessing, normalization
from fmnist_hpo.rules import Integer, Number

__all__ = ["NetworkClassifier"]

# torch's generator belongs to the process: fits in several threads of one take turns.
_training = threading.Lock()

_OWN = ("validation_fraction", "patience", "random_state")  # no parameters of a study file
_PATIENCE = Integer(1, 10_000)  # epochs, as many as there can be
_VALIDATION_FRACTION = Number(0.0, 1.0, open_high=True)


class _Stopped(Exception):
    """The held-out accuracy has not improved for long enough."""


class NetworkClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A subclass says which network. What is fitted is a checkpoint, and the network made of it."""

    history_: tuple[training.EpochMetrics, ...]
    _family: ClassVar[str]
    _counters: ClassVar[dict[str, str]]  # parameter with a value per layer -> number of layers

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train from first weights.

        Parameters
        ----------
        X : (n, rows, columns), (n, 1, rows, columns) or (n, pixels), uint8 or any real numbers
        y : (n,), labels of any kind

        Raises
        ------
        ValueError
            Data or a parameter break a rule, or the loss is not finite any more. What was fitted
            before is as it was.
        """
        with self._whole_or_not_at_all():
            network, config = self._configs()
            patience = self._patience()
            images, labels = self._check(X, y)
            self.classes_, encoded = np.unique(labels, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"need labels of at least 2 classes, got 1 class, {self.classes_}")
            seed = self._draw_seed()
            examples = self._examples(images, encoded)
            part = self._split(examples, seed)
            self._scale = normalization(config.normalization, examples, part)
            self._passes, self.history_ = 0, ()
            self._train(network, config, examples, part, seed, patience)
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Train one epoch on these data, at the constant learning rate, and keep what was learnt.

        The first call, unless `fit` came before, decides the shape of the images, the classes and
        the normalisation. `epochs`, `schedule` and `patience` do not count here.

        Parameters
        ----------
        X, y
            As for `fit`.
        classes
            All labels that will ever come; due in the first call.

        Raises
        ------
        ValueError
            As for `fit`; or `classes` are missing or others, or a label is not among them.
        """
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("need classes in the first call of partial_fit, got None")
        with self._whole_or_not_at_all():
            network, config = self._configs()
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
            config = replace(config, epochs=1, schedule="constant")
            examples = self._examples(images, np.searchsorted(known, labels))
            part = split(examples, validation_fraction=0.0)
            start = None if first else self._checkpoint
            if first:
                self._scale = normalization(config.normalization, examples, part)
                self._passes, self.history_ = 0, ()
            seed = (self._draw_seed() + self._passes) % 2**31
            self._train(network, config, examples, part, seed, math.inf, start)
            self._passes += 1
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """X as for `fit` -> (n, classes): the probability of each of `classes_`.

        Computed in float32, whatever the precision of the training.
        """
        check_is_fitted(self)
        images = torch.from_numpy(self._check(X, reset=False)[0])
        mean, deviation = self._scale
        seen = Preprocessing(mean=mean, deviation=deviation, dtype=torch.float32)
        device = next(self._network.parameters()).device
        with torch.inference_mode():
            batches = [
                seen.logits(self._network, batch.to(device)).cpu().numpy()
                for batch in torch.split(images, VALIDATION_BATCH)
            ]
        return softmax(np.concatenate(batches))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """X as for `fit` -> (n,): the most probable of `classes_`."""
        probable = self.predict_proba(X).argmax(axis=1)
        predicted: NDArray[Any] = self.classes_[probable]
        return predicted

    @contextlib.contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Everything that is assigned inside is taken back where that fails or is interrupted."""
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
        patience: float,
        start: bytes | None = None,
    ) -> None:
        """Train, and keep the last epoch; with patience, the one that validated best."""
        best: tuple[float, int, bytes] = -math.inf, 0, b""
        history: list[training.EpochMetrics] = []

        def on_epoch(epoch: int, metrics: training.EpochMetrics, save: training.Save) -> None:
            nonlocal best
            history.append(metrics)
            if patience < math.inf and metrics.val_accuracy is not None:
                if metrics.val_accuracy > best[0]:
                    best = metrics.val_accuracy, epoch, save()
                elif epoch - best[1] >= patience:
                    raise _Stopped

        with _training, contextlib.suppress(_Stopped):
            result = training.train(
                network,
                config,
                examples,
                part,
                seed=seed,
                start=start,
                preprocessing=Preprocessing.of(config, *self._scale),
                on_epoch=on_epoch,
            )
            best = best if best[2] else (math.nan, config.epochs, result.checkpoint)
        _, self.best_epoch_, self._checkpoint = best
        self.history_ = (*self.history_, *history)
        self._network_config = network
        self._build()

    def _build(self) -> None:
        """The network of the checkpoint, ready to predict."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # On the meta device nothing is drawn: another thread's training may use the generator now.
        with torch.device("meta"):
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

    def _configs(self) -> tuple[NetworkConfig, TrainingConfig]:
        """The study file's flat parameters from ours, checked by its rules."""
        given = {name: value for name, value in self.get_params().items() if name not in _OWN}
        if given["optimizer"] != "sgd":  # the others have none, and a study file refuses it
            del given["momentum"]
        params: dict[str, Any] = {"family": self._family}
        for name, value in given.items():
            if name in self._counters and isinstance(value, Sequence | np.ndarray):
                params |= {f"{name}_{index}": _plain(one) for index, one in enumerate(value)}
                params.setdefault(self._counters[name], len(value))
            elif value is not None:
                params[name] = _plain(value)
        return parse(params)

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _patience(self) -> float:
        if self.patience is None:
            return math.inf
        return float(_PATIENCE.check("patience", self.patience))

    def _split(self, examples: Examples, seed: int) -> Split:
        """What is trained on and, with patience, what is held out."""
        fraction = 0.0
        if self.patience is not None:
            fraction = _VALIDATION_FRACTION.check("validation_fraction", self.validation_fraction)
        part = split(examples, validation_fraction=fraction, seed=seed)
        if self.patience is not None and not len(part.validation):
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


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    """What scikit-learn expects of data and parameters that cannot be used."""
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
