"""Ensembles of networks in bundles: the mean of the logits that each member's own bundle gives."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.bundle.ensemble import Selection, folder_of, members
from fmnist_hpo.bundle.export import Model
from fmnist_hpo.bundle.fields import REMEDY
from fmnist_hpo.bundle.kinds import Logits, Size
from fmnist_hpo.bundle.records import Readout
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks.bundles import network
from fmnist_hpo.networks.bundles.onnx import to_onnx

__all__ = ["build_model", "portable_files", "predictor", "size"]


def build_model(
    models: Mapping[int, Model], temperatures: Mapping[int, float], selection: Selection
) -> Model:
    """Members in the form that `export` takes. Weights that count more than once are stored once.

    Args:
        models, temperatures: of each member, by the number of its trial.
    """
    files: dict[str, bytes] = {}
    for member in selection.members:
        model, folder = models[member.trial], folder_of(member.trial)
        readout = Readout(temperature=temperatures[member.trial]).to_json()
        files |= {folder + name: data for name, data in model.files.items()}
        files[f"{folder}config.json"] = to_json({**model.config, "readout": readout})
    first = models[selection.members[0].trial].config
    return Model(
        files=files,
        config={
            "kind": "ensemble",
            "selection": selection.to_json(),
            "classes": first["classes"],
            "image_size": first["image_size"],
            "preprocessing": {"input": first["preprocessing"]["input"]},
        },
        curves={},
        fit_seconds=sum(model.fit_seconds for model in models.values()),
    )


def portable_files(bundle: Bundle, images: NDArray[np.uint8]) -> dict[str, bytes]:
    """All members with the ensemble's readout as one ONNX model.

    Raises:
        InputError: see `_shares`, `network.load_network` and `to_onnx`.
    """
    readout = bundle.config.readout
    parts = [
        network.part_of(
            part, weight=share / (part.config.readout.temperature * readout.temperature)
        )
        for share, part in _shares(bundle)
    ]
    return {"model.onnx": to_onnx(parts, flip=readout.flip, images=images)}


def size(bundle: Bundle) -> Size:
    """See `kinds.Kind`; the sum over different members."""
    sizes = [network.size(part) for _, part in _shares(bundle)]
    return Size(
        model_bytes=sum(one.model_bytes for one in sizes),
        parameters=sum(one.parameters or 0 for one in sizes),
        flops=sum(one.flops or 0 for one in sizes),
    )


def predictor(bundle: Bundle) -> Logits:
    """See `kinds.Kind`. Each member's logits are divided by its own temperature, then averaged.

    Raises:
        InputError: see `_shares` and `network.load_network`.
    """
    models = [
        (share / part.config.readout.temperature, network.predictor(part))
        for share, part in _shares(bundle)
    ]

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        terms = [weight * model(images).astype(np.float64) for weight, model in models]
        total: NDArray[np.float64] = np.sum(terms, axis=0)
        return total

    return logits


def _shares(bundle: Bundle) -> list[tuple[float, Bundle]]:
    """Each different member with its share of the mean.

    Raises:
        InputError: a member is no network for the ensemble's images and classes.
    """
    found = list(members(bundle))
    needed = ("network", bundle.config.classes, bundle.config.image_size)
    for _, part in found:
        config = part.config
        if (config.kind, config.classes, config.image_size) != needed:
            raise InputError(
                f"bundle {part.path}: need a network for the images and classes of the ensemble, "
                f"got another model; {REMEDY}"
            )
    total = sum(member.count for member, _ in found)
    return [(member.count / total, part) for member, part in found]
