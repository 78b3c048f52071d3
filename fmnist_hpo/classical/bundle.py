"""Classical models in bundles: skops instead of pickle, restricted to the types of our models."""

import io
import json
import time
import zipfile
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from fmnist_hpo.bundle import REMEDY, Bundle
from fmnist_hpo.bundle.export import Model
from fmnist_hpo.bundle.kinds import Logits, Size
from fmnist_hpo.classical import pipeline as classical
from fmnist_hpo.classical.config import ClassicalConfig
from fmnist_hpo.classical.feature_cache import FeatureCache
from fmnist_hpo.data import Split, TrainingData
from fmnist_hpo.errors import InputError

__all__ = ["build_model", "load", "portable_files", "predictor", "size"]

BATCH = 1000  # images per batch; bounds the memory of their features
MOST_UNPACKED_BYTES = 8 << 30  # of model.skops, which is a zip file
#: Types that our models consist of, besides those that skops trusts by default.
TRUSTED = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
    }
)
_PIXELS = "images.reshape(n, -1) / 255 as float32"
_HOG = "skimage.feature.hog of each image (0 to 255) as float32, with " + ", ".join(
    f"{name}={value!r}" for name, value in classical.HOG.items()
)
_INPUT = {
    "pixels": _PIXELS,
    "hog": _HOG,
    "hog_and_pixels": f"{_HOG}; then {classical.PIXEL_WEIGHT} * sqrt({_PIXELS})",
}


def build_model(
    config: ClassicalConfig, data: TrainingData, split: Split, *, seed: int, cache: FeatureCache
) -> Model:
    """Fit a pipeline on a split's training part, in the form that `export` takes.

    Raises:
        InputError: see `pipeline.fit`.
    """
    started = time.perf_counter()
    pipeline = classical.fit(config, data, split, seed=seed, cache=cache)
    fit_seconds = time.perf_counter() - started
    # An SVM's decision values rank the classes but are not probabilities.
    probabilities = hasattr(pipeline, "predict_proba")
    return Model(
        files={"model.skops": _reproducible(skops.io.dumps(pipeline))},
        config={
            "kind": "classical",
            "pipeline": config.to_json(),
            "classes": list(data.classes),
            "image_size": list(data.image_size),
            "input": _INPUT[config.features],
            "outputs": "log-probabilities" if probabilities else "decision values",
        },
        curves={},
        fit_seconds=fit_seconds,
    )


def _reproducible(dumped: bytes) -> bytes:
    """The same content, compressed, in bytes that depend on nothing else.

    skops names arrays and objects by their address in memory, and a zip file bears the time. Here
    they are numbered in the order in which the schema names them.
    """
    numbers: dict[Any, int] = {}
    files: dict[str, str] = {}

    def number(value: Any) -> int:
        return numbers.setdefault(value, len(numbers))

    def renamed(node: Any) -> Any:
        if isinstance(node, list):
            return [renamed(one) for one in node]
        if not isinstance(node, dict):
            return node
        made = {key: renamed(one) for key, one in node.items()}
        if isinstance(made.get("__id__"), int):
            made["__id__"] = number(made["__id__"])
        if isinstance(made.get("file"), str):
            name = made["file"]
            files[name] = f"{number(name)}{PurePosixPath(name).suffix}"
            made["file"] = files[name]
        return made

    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(dumped)) as before,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        schema = json.dumps(renamed(json.loads(before.read("schema.json"))), indent=2)
        for name, now in files.items():
            after.writestr(_entry(now), before.read(name))
        after.writestr(_entry("schema.json"), schema)
        assert len(before.infolist()) == len(after.infolist()), "the schema names every file"
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # of the year 1980
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def portable_files(bundle: Bundle, images: NDArray[np.uint8]) -> dict[str, bytes]:  # noqa: ARG001
    """No files: a classical model has no other format than model.skops."""
    return {}


def load(bundle: Bundle) -> Pipeline:
    """Load the fitted pipeline, which maps features (n, d) to class indices (n,).

    Raises:
        InputError: model.skops contains a type that our models do not have, is too large, or cannot
            be read.
    """
    data = bundle.read("model.skops")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST_UNPACKED_BYTES:
            raise InputError(
                f"bundle {bundle.path}: need a model of at most {MOST_UNPACKED_BYTES:,} bytes, got "
                f"a model.skops that unpacks to {unpacked:,}; {REMEDY}"
            )
        foreign = set(skops.io.get_untrusted_types(data=data)) - TRUSTED
        if foreign:
            raise InputError(
                f"bundle {bundle.path}: need a model of the types that `export` writes, got "
                f"{', '.join(sorted(foreign))}; do not load it, {REMEDY}"
            )
        model = skops.io.loads(data, trusted=sorted(TRUSTED))
    except InputError:
        raise
    except Exception as error:  # a malformed file can make skops raise anything
        raise InputError(
            f"bundle {bundle.path}: model.skops cannot be read here: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}; "
            "install the versions in provenance.json"
        ) from error
    if not isinstance(model, Pipeline):
        raise InputError(
            f"bundle {bundle.path}: need a scikit-learn Pipeline in model.skops, got a "
            f"{type(model).__name__}; {REMEDY}"
        )
    return model


def size(bundle: Bundle) -> Size:
    """See `kinds.Kind`."""
    return Size(model_bytes=len(bundle.read("model.skops")))


def predictor(bundle: Bundle) -> Logits:
    """See `kinds.Kind`; the outputs are those of `pipeline.logits`.

    Raises:
        InputError: see `load`.
    """
    stored = bundle.config.fields.object("pipeline")
    model, kind, classes = load(bundle), stored.text("features"), len(bundle.config.classes)
    if kind not in _INPUT:
        stored.refuse("features", " or ".join(_INPUT))

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        try:
            return np.concatenate(
                [
                    classical.logits(model, classical.image_features(kind, batch), classes)
                    for batch in batches
                ]
            )
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise InputError(
                f"bundle {bundle.path}: model.skops cannot predict images of "
                f"{bundle.config.image_size} pixels: {(str(error).splitlines() or [''])[0]}; "
                f"{REMEDY}"
            ) from error

    return logits
