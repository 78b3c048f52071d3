"""The hyperparameters of a classical model: features, scaling, PCA and the estimator's own.

scikit-learn is not imported, so that a study file can be checked quickly. The parameters of an
estimator have the names of the library that fits it. One that is not given keeps the library's
default.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

from fmnist_hpo.errors import InputError
from fmnist_hpo.parameters import idle
from fmnist_hpo.rules import Choice, Integer, Number, Rule, suggest

__all__ = ["LARGEST_PCA", "MODEL", "MODELS", "SHARED", "ClassicalConfig", "parse"]

LARGEST_PCA = 256  # components; fitted once per fold, a trial uses the first ones

_SHARE = Number(0.0, 1.0, open_low=True)
_POSITIVE = Number(0.0, 1e9, open_low=True)
_PENALTY = Number(0.0, 1e9)
_TREES = Integer(1, 10_000)
#: The parameters of each model and their rules.
MODELS: dict[str, dict[str, Rule]] = {
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
MODEL = Choice(tuple(MODELS))
#: The kernels beside which a parameter of an SVM has an effect.
_KERNELS = {"gamma": ("rbf", "poly"), "degree": ("poly",)}
_KERNEL = "rbf"  # scikit-learn's default
#: The parameters of every model.
SHARED: dict[str, Rule] = {
    "features": Choice(("pixels", "hog", "hog_and_pixels")),
    "scaling": Choice(("none", "sqrt", "standard")),
    "pca_components": Integer(0, LARGEST_PCA),
}


@dataclass(frozen=True, kw_only=True)
class ClassicalConfig:
    """A validated configuration, made by `parse`."""

    model: str
    features: str = "pixels"  # see `pipeline.image_features`
    scaling: str = "none"  # "sqrt": root of each feature; "standard": mean 0 and deviation 1 each
    pca_components: int = 0  # 0: no PCA
    params: Mapping[str, Any] = field(default_factory=dict)  # those of the estimator that are given

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values, as it is exported."""
        return asdict(self)


def parse(params: Mapping[str, Any]) -> ClassicalConfig:
    """Convert the flat parameters of a study file or a trial to a record.

    Raises:
        InputError: the model does not have a parameter of that name, a value breaks its rule, the
            kernel has no such parameter, or the model is XGBoost and the package is not installed.
    """
    if "model" not in params:
        raise InputError(f"model is missing; set it to one of {', '.join(MODELS)}")
    model = MODEL.check("model", params["model"])
    if model == "xgboost" and find_spec("xgboost") is None:
        raise InputError(
            "model xgboost needs the package xgboost, which is not installed; "
            "in the checkout, run `uv sync --extra xgboost` or `pip install -e '.[xgboost]'`"
        )
    own = MODELS[model]
    for name in params:
        if name != "model" and name not in own and name not in SHARED:
            known = ["model", *SHARED, *own]
            hint = suggest(name, known) or f"it takes {', '.join(known)}"
            raise InputError(f"model {model} takes no parameter {name!r}; {hint}")
    checked = _check(own, params)
    if model == "svm":
        _refuse_idle(checked)
    return ClassicalConfig(model=model, params=checked, **_check(SHARED, params))


def _refuse_idle(params: Mapping[str, Any]) -> None:
    kernel = params.get("kernel", _KERNEL)
    for name, kernels in _KERNELS.items():
        if name in params and kernel not in kernels:
            raise idle(name, "kernel", kernels, kernel)


def _check(rules: Mapping[str, Rule], params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the parameters that have a rule here, checked."""
    return {name: rule.check(name, params[name]) for name, rule in rules.items() if name in params}
