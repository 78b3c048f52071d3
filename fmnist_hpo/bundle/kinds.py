"""The kinds of models in bundles.

Each kind is a module with the functions of `Kind`, imported when a bundle of it is used.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle.bundle import Bundle
from fmnist_hpo.bundle.ensemble import members
from fmnist_hpo.bundle.fields import REMEDY
from fmnist_hpo.errors import InputError

__all__ = [
    "Kind",
    "Logits",
    "Size",
    "check_logits",
    "kind_of",
    "load",
    "logits",
    "mirrored",
    "model_hash",
    "size_of",
]

_MODULES = {  # kind -> its module, and the file that holds the trained model; None: its members
    "network": ("fmnist_hpo.networks.bundles.network", "model.safetensors"),
    "classical": ("fmnist_hpo.classical.bundle", "model.skops"),
    "ensemble": ("fmnist_hpo.networks.bundles.ensemble", None),
}

Logits = Callable[[NDArray[np.uint8]], NDArray[np.floating]]  # (n, rows, columns) -> (n, classes)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is; None where its kind knows no such figure."""

    model_bytes: int
    parameters: int | None = None
    flops: int | None = None  # of one image


class Kind(Protocol):
    """The functions of a kind's module."""

    def predictor(self, bundle: Bundle) -> Logits:
        """Load the model without its readout; it computes as it did in the study."""
        ...

    def size(self, bundle: Bundle) -> Size:
        """How large the model is without its readout."""
        ...

    def portable_files(self, bundle: Bundle, images: NDArray[np.uint8]) -> dict[str, bytes]:
        """The model and its readout for other programs.

        Compared with the model on images (n, rows, columns), n >= 1.
        """
        ...


def kind_of(bundle: Bundle) -> Kind:
    """The module for a bundle's kind of model.

    Raises:
        InputError: a kind that this version does not know.
    """
    module, _ = _described(bundle)
    return cast(Kind, cast(Any, import_module(module)))


def model_hash(bundle: Bundle) -> str:
    """SHA-256 of the trained model and its readout, to which measurements are bound.

    Without a readout it is that of the file alone, as in earlier versions.

    Raises:
        InputError: see `kind_of`; or the file is missing.
    """
    _, file = _described(bundle)
    if file is None:
        parts = [(member.count, model_hash(part)) for member, part in members(bundle)]
        found = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    else:
        found = hashlib.sha256(bundle.read(file)).hexdigest()
    readout = bundle.config.readout
    if readout.temperature == 1 and not readout.flip:
        return found
    whole = json.dumps([found, readout.temperature, readout.flip])
    return hashlib.sha256(whole.encode()).hexdigest()


def _described(bundle: Bundle) -> tuple[str, str | None]:
    kind = bundle.config.kind
    if kind not in _MODULES:
        bundle.config.fields.refuse("kind", " or ".join(_MODULES))
    return _MODULES[kind]


def load(bundle: Bundle) -> Logits:
    """Load a bundle's model with its mirror image, if it has one, and before its temperature.

    Raises:
        InputError: the model cannot be read.
    """
    model = kind_of(bundle).predictor(bundle)
    if not bundle.config.readout.flip:
        return model
    return lambda images: (model(images) + model(mirrored(images))) / 2


def mirrored(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, rows, columns), left and right exchanged."""
    return np.ascontiguousarray(images[:, :, ::-1])


def size_of(bundle: Bundle) -> Size:
    """How large a bundle's model is; with its mirror image every picture costs it twice.

    Raises:
        InputError: the model cannot be read.
    """
    size = kind_of(bundle).size(bundle)
    if bundle.config.readout.flip and size.flops is not None:
        return replace(size, flops=2 * size.flops)
    return size


def logits(bundle: Bundle, images: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Images (n, rows, columns), 0 to 255, n >= 1, to finite logits (n, classes).

    Computed as in the study: on the machine that trained the model the numbers are the very same.
    They are not divided by the temperature.

    Raises:
        InputError: the bundle's model cannot be read, or its outputs are not finite numbers of
            the bundle's classes.
    """
    return check_logits(bundle, load(bundle)(images), len(images))


def check_logits(
    bundle: Bundle, outputs: NDArray[np.floating], images: int
) -> NDArray[np.floating]:
    """The outputs of a bundle's model, if they are finite numbers (images, classes).

    Raises:
        InputError: they are not.
    """
    needed = (images, len(bundle.config.classes))
    if outputs.shape != needed or outputs.dtype.kind != "f":
        raise InputError(
            f"bundle {bundle.path}: need outputs of shape {needed} from the model, got "
            f"{outputs.shape} of type {outputs.dtype}; {REMEDY}"
        )
    wrong = np.count_nonzero(~np.isfinite(outputs))
    if wrong:
        raise InputError(
            f"need a model with finite outputs, got {wrong} that are not among {outputs.size} from "
            f"bundle {bundle.path}; choose a trial that has not diverged"
        )
    return outputs
