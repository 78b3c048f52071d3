"""The common base of problems on images: the `[data]` table, the data set and its splits."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fmnist_hpo.errors import InputError
from fmnist_hpo.rules import suggest
from search.cross_validation import FOLD_SCORE, FOLD_TRAIN_SCORE
from search.errors import ProblemError
from search.problem import TrialContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fmnist_hpo.bundle.export import Model
    from fmnist_hpo.data import Split, TrainingData

__all__ = ["ImageProblem"]

_SETTINGS = ("dir", "validation_fraction", "split_seed", "tune_on")


class ImageProblem(ABC):
    """A problem on Fashion-MNIST, or on a data set in the same idx format.

    Args:
        settings: the study file's `[data]` table. `dir`: folder of the data set (default:
            Fashion-MNIST, found on this machine or downloaded). `split_seed`: seed of the split
            (default 0). `validation_fraction`: share of the images that is held out (default 0.2;
            not with folds). `tune_on`: number of images that trials use, a stratified part
            (default: all).
        folds: number of stratified folds of a cross-validation; None to hold out one part.

    Raises:
        ProblemError: a key is unknown or a value is invalid.
    """

    #: Whether the last checkpoint of a trial without folds contains its model.
    keeps_model = True
    #: See `search.problem.Problem`.
    returns = ("val_accuracy", "maximize")
    #: See `search.problem.Problem`; the score of a fold is an accuracy too.
    percent = ("val_accuracy", "train_accuracy", FOLD_SCORE, FOLD_TRAIN_SCORE)

    def __init__(self, settings: Mapping[str, Any], folds: int | None = None) -> None:
        for key in settings:
            if key not in _SETTINGS:
                hint = suggest(key, _SETTINGS) or f"the known ones are {', '.join(_SETTINGS)}"
                raise ProblemError(f"[data] has an unknown key {key!r}; {hint}")
        if folds is not None and "validation_fraction" in settings:
            raise ProblemError(
                "data.validation_fraction does not apply to a cross-validation, which validates on "
                f"each of its {folds} folds in turn; leave it out"
            )
        directory = settings.get("dir")
        if directory is not None and not (isinstance(directory, str) and directory):
            raise ProblemError(
                f"data.dir must be a path in quotes, got {directory!r}; name a folder, or leave it "
                "out"
            )
        self._directory = None if directory is None else _expanded(directory)
        self._fraction = settings.get("validation_fraction", 0.2)
        if not isinstance(self._fraction, float) or not 0 < self._fraction < 1:
            raise ProblemError(
                f"need a number 0 < data.validation_fraction < 1, got {self._fraction!r}; 0.2 is "
                "usual"
            )
        self._split_seed = _whole(settings, "split_seed", 0)
        if not 0 <= self._split_seed < 2**32:
            raise ProblemError(
                f"need 0 <= data.split_seed < 2**32, got {self._split_seed}; 0 is usual"
            )
        self._tune_on = _whole(settings, "tune_on", None)
        self.folds = folds
        self._repeat: int | None = None

    @cached_property
    def data(self) -> "TrainingData":
        """The training images and labels, opened once per process.

        Raises:
            ProblemError: the files cannot be found, or are invalid.
        """
        from fmnist_hpo import data

        try:
            return data.load_training(self.directory, known=self._directory is None)
        except InputError as error:
            raise ProblemError(str(error)) from error

    @cached_property
    def directory(self) -> Path:
        """The folder of the data set.

        Raises:
            ProblemError: Fashion-MNIST cannot be found.
        """
        from fmnist_hpo import data

        if self._directory is not None:
            return self._directory
        try:
            return data.find(None)
        except InputError as error:
            raise ProblemError(str(error)) from error

    @property
    def known(self) -> bool:
        """Whether the data set is Fashion-MNIST itself, whose hashes are verified."""
        return self._directory is None

    @cached_property
    def tuned_on(self) -> "NDArray[np.int64]":
        """Indices of the images that trials use, training and validation together, ascending.

        Raises:
            ProblemError: `tune_on` exceeds the number of images, or is below one per class.
        """
        from fmnist_hpo import data

        size = len(self.data.labels) if self._tune_on is None else self._tune_on
        try:
            return data.part(self.data, size, seed=self._split_seed)
        except InputError as error:
            raise ProblemError(f"data.tune_on: {error}") from error

    @cached_property
    def splits(self) -> "tuple[Split, ...]":
        """The splits of a trial in training and validation part: one, or one per fold.

        Raises:
            ProblemError: there are too few images.
        """
        from fmnist_hpo import data

        try:
            if self.folds is not None:
                return data.folds(
                    self.data, self.folds, within=self.tuned_on, seed=self._split_seed
                )
            held_out = data.split(
                self.data,
                validation_fraction=self._fraction,
                seed=self._holdout_seed,
                within=self.tuned_on,
            )
        except InputError as error:
            raise ProblemError(str(error)) from error
        if not len(held_out.validation):
            raise ProblemError(
                f"need an image to validate, got none of {len(self.tuned_on):,} with "
                f"data.validation_fraction = {self._fraction}; raise it, or use more images"
            )
        return (held_out,)

    @cached_property
    def fewest_images(self) -> int | None:
        """The training images of the smallest split; None where the data cannot be read here.

        Whoever needs the data says why not.
        """
        try:
            return min(len(split.train) for split in self.splits)
        except ProblemError:
            return None

    @property
    def _holdout_seed(self) -> int:
        if self._repeat is None:
            return int(self._split_seed)
        digest = hashlib.sha256(f"{self._split_seed}:repeat:{self._repeat}".encode()).digest()
        return int.from_bytes(digest[:8])

    def reshuffled(self, repeat: int) -> Self:
        """See `search.problem.Reshuffling`: the same training images, other ones of them validate.

        The split differs from that of the search and from those of other repeats.
        """
        other = copy.copy(self)  # it shares the images
        other.__dict__.update(data=self.data, tuned_on=self.tuned_on)
        other.__dict__.pop("splits", None)
        other._repeat = repeat
        return other

    def describe_split(self) -> str:
        """The numbers of training and validation images of a trial, as a phrase."""
        size, first = len(self.tuned_on), self.splits[0]
        part = "" if self._tune_on is None else f" of a stratified part of {size:,}"
        if self.folds is not None:
            return f"{self.folds} folds of about {size // self.folds:,} images{part}"
        return f"{len(first.train):,} to train, {len(first.validation):,} to validate{part}"

    @property
    def split_hash(self) -> str:
        """SHA-256 over the data and every split."""
        hashes = [split.hash for split in self.splits]
        return (
            hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        )

    @cached_property
    def everything(self) -> "Split":
        """The split of a refit: all images for training, none for validation."""
        from fmnist_hpo import data

        return data.split(self.data, validation_fraction=0.0, seed=self._split_seed)

    def fingerprint(self) -> Mapping[str, str]:
        """See `search.problem.Problem.fingerprint`: hashes of the files and of the splits."""
        return {**self.data.hashes, "split": self.split_hash}

    @abstractmethod
    def check(self, params: Mapping[str, Any]) -> None:
        """See `search.problem.Problem.check`."""

    def refit_params(
        self, params: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """See `search.problem.Refitting.refit_params`."""
        made = {**params, **overrides}
        self.check(made)
        return made

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """See `search.problem.Problem.environment`."""

    @abstractmethod
    def run(self, trial: TrialContext, /) -> float | Mapping[str, float]:
        """See `search.problem.Problem.run`."""

    @abstractmethod
    def is_whole(self, checkpoint: bytes, curves: Mapping[str, Sequence[float | None]]) -> bool:
        """Whether a checkpoint holds the model of a complete trial, not that of an earlier step.

        Args:
            curves: as for `model`.
        """

    @abstractmethod
    def model(
        self,
        params: Mapping[str, Any],
        split: "Split",
        *,
        seed: int,
        curves: Mapping[str, Sequence[float | None]],
        checkpoint: bytes | None,
        save: Callable[[bytes], None],
        say: Callable[[str], None],
    ) -> "Model":
        """Train the model of a trial, or complete its training, for export.

        Args:
            params: of the trial, or of its refit.
            split: to train on; that of the trial, or `everything` for a refit.
            seed: of the trial.
            curves: the values that the trial reported, one list per metric with one value per step.
            checkpoint: of a training with these arguments, to continue it if it is not complete;
                None to train from the start.
            save: called with a new checkpoint, which replaces the one before, during training.
            say: called with a line of progress during training.

        Raises:
            InputError: the model cannot be trained on these images, or not with these parameters.
        """


def _whole(settings: Mapping[str, Any], key: str, default: int | None) -> Any:
    value = settings.get(key, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ProblemError(f"data.{key} must be a whole number, got {value!r}")
    return value


def _expanded(directory: str) -> Path:
    from fmnist_hpo import data

    try:
        return data.expanded(directory)
    except InputError as error:
        raise ProblemError(f"data.dir: {error}") from error
