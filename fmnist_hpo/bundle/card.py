"""MODEL_CARD.md: what a bundle is, how well it does and how far that can be trusted."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmnist_hpo.bundle.bundle import has_probabilities

__all__ = ["write_card"]

FILE_NOTES = {
    "model.onnx": "the network with its normalisation, for ONNX Runtime and its kin",
    "model.skops": "the fitted scikit-learn pipeline, without pickle",
    "model.safetensors": "the weights by torch's names; `config.json` says what network they fit",
    "config.json": "architecture, training settings, preprocessing, classes",
    "predictions.safetensors": "truth and probabilities of every test image, once measured",
    "metrics.json": "learning curves and figures of merit",
    "provenance.json": "study, trial, parameters, seed, hashes, versions, machine",
    "manifest.json": "SHA-256 sums that every reader checks",
}

FIGURES = {
    "figures/curves.png": "Loss and accuracy per epoch",
    "figures/folds.png": "Accuracy of each fold of the trial that chose the configuration",
    "figures/validation-confusion.png": "Confusion matrix of the validation part",
    "figures/validation-samples.png": "Predictions of validation images: right, wrong, unsure",
    "figures/confusion.png": "Confusion matrix of the test set",
    "figures/samples.png": "Predictions of test images: right, wrong, unsure",
}

MODEL_NAMES = {
    "svm": "A support vector machine",
    "knn": "A k-nearest-neighbours classifier",
    "random_forest": "A random forest",
    "gradient_boosting": "Histogram gradient boosting",
    "xgboost": "XGBoost",
    "logistic_regression": "Logistic regression",
}
FEATURE_NAMES = {
    "pixels": "pixels",
    "hog": "histograms of oriented gradients",
    "hog_and_pixels": "histograms of oriented gradients and pixels",
}
SCALING_NAMES = {"sqrt": "square roots", "standard": "standardised"}

LIMITS = """\
## Limits

It knows the classes above and nothing else: given any other picture it still names one of them,
often with high confidence. It was trained on small grey pictures of single things, light on a
dark background; photographs with scenery are outside of what it has learnt."""


def write_card(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    names: Collection[str],
) -> bytes:
    """The card, from the contents of config.json, metrics.json and provenance.json.

    Args:
        names: the bundle's files; the figures among them are shown.
    """
    kind = KINDS[config["kind"]]
    parts = [
        _title(kind.what(config), config, provenance),
        _table(
            "Accuracy", ("measured on", "images", "accuracy", "95 % interval"), _accuracy(metrics)
        ),
        _remarks(metrics, provenance),
        _classes(config, metrics),
        _figures(names),
        kind.use(config),
        _table("Files", ("file", "holds"), _files(names)),
        *(_table(name.title(), ("", ""), _flat(config[name])) for name in kind.tables),
        _table("Provenance", ("", ""), _flat(provenance)),
        LIMITS,
    ]
    return ("\n\n".join(part for part in parts if part) + "\n").encode()


def _files(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The files that are there; the manifest always is."""
    for name, note in FILE_NOTES.items():
        if name in names or name == "manifest.json":
            yield name, note


def _title(what: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    rows, columns = config["image_size"]
    return f"""\
# {provenance["study"]}: trial {provenance["trial"]}

{what} that puts grey pictures of {rows}x{columns} pixels into {len(config["classes"])} classes: \
{", ".join(config["classes"])}. {_training(provenance)}"""


def _training(provenance: Mapping[str, Any]) -> str:
    tuned, trained = provenance["tuned_on"], provenance["trained_on"]
    if not provenance["refit"]:
        return (
            f"It was trained on {trained:,} images; {tuned - trained:,} others, the validation "
            "part, chose its configuration."
        )
    if provenance["folds"] is not None:
        chosen = f"the mean of {provenance['folds']} stratified folds of {tuned:,} images"
    else:
        chosen = f"a part held out of {tuned:,} images"
    return (
        f"Its configuration was chosen by {chosen}; then it was trained on all {trained:,} "
        "training images, those that had chosen it included."
    )


def _accuracy(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, name in (("validation", "validation part"), ("test", "test set")):
        part = metrics[key]
        if part is not None:
            interval = f"{_percent(part['accuracy_low'])} to {_percent(part['accuracy_high'])}"
            yield name, f"{part['n']:,}", _percent(part["accuracy"]), interval


def _remarks(metrics: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    remarks = []
    if metrics["validation"] is not None:
        remarks.append(
            "The validation accuracy is that of the best of many trials and so flatters the model."
        )
    else:
        folds = metrics["folds"]
        scores = f"{_percent(provenance['value'])}"
        if folds:
            train = sum(folds["fold_train_score"]) / len(folds["fold_train_score"])
            scores = (
                f"{scores} on the images held out, as a mean over its folds, and "
                f"{_percent(train)} on those it was trained on"
            )
        remarks.append(
            "There is no validation accuracy of this model: it was trained on the validation "
            f"images, too. The trial that chose the configuration had {scores}."
        )
    remarks.append(_test_remark(metrics["test"]))
    return " ".join(remarks)


def _test_remark(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return "**The test set has not been measured for this bundle.**"
    count = test["evaluations"]
    if count == 1:
        return (
            "**The test set was measured once in this study**, after the configuration was chosen: "
            "the test accuracy is an unbiased estimate."
        )
    return (
        f"**The test set was measured {count} times in this study.** Whoever chooses among models "
        "by such figures makes them flattering."
    )


def _classes(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    part = metrics["test"] or metrics["validation"]
    if part is None:
        return ""
    rows = [
        (name, *(f"{one[key]:.3f}" for key in ("precision", "recall", "f1")), f"{one['support']:,}")
        for name, one in part["per_class"].items()
    ]
    where = "test set" if metrics["test"] else "validation part"
    table = _table(f"Per class, on the {where}", ("class", "precision", "recall", "F1", "n"), rows)
    if not has_probabilities(config):
        return (
            f"{table}\n\nThe model gives decision values: they put the classes in order and are no "
            "probabilities, so shares made of them mean nothing."
        )
    return (
        f"{table}\n\nCross-entropy {part['loss']:.4f} nats per image; expected calibration error "
        f"{_percent(part['calibration_error'])}."
    )


def _figures(names: Collection[str]) -> str:
    shown = [f"![{note}]({name})" for name, note in FIGURES.items() if name in names]
    return "\n\n".join(["## Figures", *shown])


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What differs between the cards of kinds of models, as functions of config.json."""

    what: Callable[[Mapping[str, Any]], str]
    use: Callable[[Mapping[str, Any]], str]
    tables: tuple[str, ...]  # parts of config.json that are shown


def _what_network(config: Mapping[str, Any]) -> str:
    what = f"A network of the family {config['network']['family'].upper()}"
    if config["training"].get("patience") is None:
        return what
    kept, trained = config["epoch"]["kept"], config["epoch"]["trained"]
    return f"{what}, as it was after epoch {kept} of {trained} (early stopping)"


def _what_classical(config: Mapping[str, Any]) -> str:
    pipeline = config["pipeline"]
    model, features = MODEL_NAMES[pipeline["model"]], FEATURE_NAMES[pipeline["features"]]
    scaling = pipeline["scaling"]
    steps = [] if scaling == "none" else [SCALING_NAMES[scaling]]
    if pipeline["pca_components"]:
        steps.append(f"projected on {pipeline['pca_components']} principal components")
    return f"{model} on {features}" + (f" ({', '.join(steps)})" if steps else "")


def _use_network(config: Mapping[str, Any]) -> str:
    rows, columns = config["image_size"]
    return f"""\
## Use

```
fmnist-hpo predict THIS_FOLDER picture.png
```

or without this project, in Python:

```python
import numpy, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
images = numpy.zeros((1, 1, {rows}, {columns}), "float32")  # {config["preprocessing"]["input"]}
logits = session.run(["logits"], {{"images": images}})[0]  # (n, {len(config["classes"])})
```"""


def _use_classical(config: Mapping[str, Any]) -> str:
    return f"""\
## Use

```
fmnist-hpo predict THIS_FOLDER picture.png
```

or without this project, in Python, with the versions of the section Provenance:

```python
import skops.io

print(skops.io.get_untrusted_types(file="model.skops"))  # look before you trust
model = skops.io.load("model.skops", trusted=[...])
# features (n, d): {config["input"]}
classes = model.predict(features)  # (n,) indices into the classes above
```"""


KINDS = {
    "network": _Kind(what=_what_network, use=_use_network, tables=("network", "training")),
    "classical": _Kind(what=_what_classical, use=_use_classical, tables=("pipeline",)),
}


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested records as rows of a table: {"a": {"b": 1}} -> ("a b", "1")."""
    for key, value in record.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, f"`{value}`"


def _table(title: str, heads: tuple[str, ...], rows: Any) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    table = "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)
    return f"## {title}\n\n{table}" if len(lines) > 2 else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
