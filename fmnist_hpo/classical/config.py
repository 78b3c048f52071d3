"""What a classical trial is: features, scaling, PCA and a model, from flat parameters.

Free of scikit-learn, so that a study file can be checked without importing it. Parameters have the
names of the library that fits the model, and its defaults where they are left out.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

from fmnist_hpo.errors import InputError
from fmnist_hpo.rules import Choice, Integer, Number, Rule

__all__ = ["LARGEST_PCA", "ClassicalConfig", "parse"]

LARGEST_PCA = 256  # components; a fold's are fitted once at this number and cut to fewer

_SHARE = Number(0.0, 1.0, open_low=True)
_POSITIVE = Number(0.0, 1e9, open_low=True)
_PENALTY = Number(0.0, 1e9)
_TREES = Integer(1, 10_000)
_MODELS: dict[str, dict[str, Rule]] = {
    "svm": {
        "C": _POSITIVE,
        "kernel": Choice(("rbf", "poly", "linear")),
        "gamma": _POSITIVE,
        "degree": Integer(1, 10),
    },
    "knn": {
        "n_neighbors": Integer(1, 1000),
        "weights": Choice(("uniform", "distance")),
        "metric": Choice(("euclidean", "manhattan", "cosine")),
    },
    "random_forest": {
        "n_estimators": _TREES,
        "criterion": Choice(("gini", "entropy")),
        "max_depth": Integer(1, 1000),
        "max_features": _SHARE,
        "min_samples_leaf": Integer(1, 10_000),
        "max_samples": _SHARE,
    },
    "gradient_boosting": {
        "learning_rate": _POSITIVE,
        "max_iter": _TREES,
        "max_leaf_nodes": Integer(2, 10_000),
        "max_depth": Integer(1, 1000),
        "min_samples_leaf": Integer(1, 10_000),
        "l2_regularization": _PENALTY,
        "max_features": _SHARE,
        "max_bins": Integer(2, 255),
    },
    "xgboost": {
        "learning_rate": _POSITIVE,
        "n_estimators": _TREES,
        "max_depth": Integer(1, 100),
        "min_child_weight": _PENALTY,
        "subsample": _SHARE,
        "colsample_bytree": _SHARE,
        "colsample_bynode": _SHARE,
        "reg_lambda": _PENALTY,
        "max_bin": Integer(2, 256),
    },
    "logistic_regression": {
        "C": _POSITIVE,
        "max_iter": Integer(1, 100_000),
        "tol": _POSITIVE,
    },
}
_MODEL = Choice(tuple(_MODELS))
_SHARED: dict[str, Rule] = {
    "features": Choice(("pixels", "hog", "hog_and_pixels")),
    "scaling": Choice(("none", "sqrt", "standard")),
    "pca_components": Integer(0, LARGEST_PCA),
}


@dataclass(frozen=True, kw_only=True)
class ClassicalConfig:
    """A checked configuration; `parse` makes it."""

    model: str
    features: str = "pixels"  # see `classical.image_features`
    scaling: str = "none"  # "sqrt": of each feature; "standard": each to mean 0 and deviation 1
    pca_components: int = 0  # 0: no PCA
    params: Mapping[str, Any] = field(default_factory=dict)  # of the model

    def to_json(self) -> dict[str, Any]:
        """What is exported; `ClassicalConfig(**...)` reads it back."""
        return asdict(self)


def parse(params: Mapping[str, Any]) -> ClassicalConfig:
    """Flat parameters, as they stand in study files and trials, to a record.

    Raises:
        InputError: an unknown name, a name that does not apply, a bad value; or XGBoost is asked
            for and not installed.
    """
    if "model" not in params:
        raise InputError(f"model is missing; set it to one of {', '.join(_MODELS)}")
    model = _MODEL.check("model", params["model"])
    if model == "xgboost" and find_spec("xgboost") is None:
        raise InputError(
            "model xgboost needs the package xgboost, which is not installed; "
            "install it in the checkout with `uv sync --extra xgboost` or "
            "`pip install -e '.[xgboost]'`"
        )
    own = _MODELS[model]
    for name in params:
        if name != "model" and name not in own and name not in _SHARED:
            known = ["model", *_SHARED, *own]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise InputError(f"model {model} takes no parameter {name!r}; {hint}")
    shared: dict[str, Any] = {
        name: rule.check(name, params[name]) for name, rule in _SHARED.items() if name in params
    }
    return ClassicalConfig(
        model=model,
        params={
            name: rule.check(name, params[name]) for name, rule in own.items() if name in params
        },
        **shared,
    )
