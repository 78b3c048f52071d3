"""What an exported model says of images: the one place that knows which kinds of models there are.

Each kind is a module, imported when a bundle of it is met, with the functions of `Kind`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle.bundle import REMEDY, Bundle
from fmnist_hpo.errors import InputError

__all__ = ["Kind", "Logits", "Size", "kind_of", "logits"]

_MODULES = {
    "network": "fmnist_hpo.networks.bundle",
    "classical": "fmnist_hpo.classical.bundle",
}


Logits = Callable[[NDArray[np.uint8]], NDArray[np.floating]]  # (n, rows, columns) -> (n, classes)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is; None where its kind knows no such figure."""

    model_bytes: int
    parameters: int | None = None
    flops: int | None = None  # of one image


class Kind(Protocol):
    """What a kind of models brings along."""

    def reader(self, bundle: Bundle) -> Logits:
        """The model, loaded once: see `inference.logits`."""
        ...

    def size(self, bundle: Bundle) -> Size:
        """How large the model is."""
        ...

    def portable(self, bundle: Bundle, images: NDArray[np.uint8]) -> dict[str, bytes]:
        """Further files for other programs, compared with the model on images (n, r, c), n >= 1."""
        ...


def kind_of(bundle: Bundle) -> Kind:
    """The module for a bundle's kind of model.

    Raises:
        InputError: a kind that this version does not know.
    """
    name = bundle.config.get("kind")
    if name not in _MODULES:
        raise InputError(
            f"bundle {bundle.path}: need a model of kind {' or '.join(_MODULES)}, got {name!r}; "
            f"{REMEDY}"
        )
    return cast(Kind, cast(Any, import_module(_MODULES[name])))


def logits(bundle: Bundle, images: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Images (n, rows, columns), 0 to 255, n >= 1, to finite logits (n, classes).

    Computed as in the study: on the machine that trained the model the numbers are the very same.

    Raises:
        InputError: the bundle's model cannot be read, or its outputs are not finite.
    """
    return kind_of(bundle).reader(bundle)(images)
