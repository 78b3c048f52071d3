"""MODEL_CARD.md: what a bundle is, how well it does, and how far its figures can be trusted."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmnist_hpo.bundle.ensemble import Selection
from fmnist_hpo.bundle.records import (
    Config,
    ModelMetrics,
    Readout,
    SealedMetrics,
    StoredProvenance,
)
from fmnist_hpo.errors import printable
from fmnist_hpo.metrics import Metrics

__all__ = ["selection_remark", "write_card"]

FILES = {
    "model.onnx": "the network from grey values to logits, for ONNX Runtime and others",
    "model.skops": "the fitted scikit-learn pipeline, without pickle",
    "model.safetensors": "the weights by torch's names; `config.json` describes their network",
    "members/": "weights and description of each member",
    "config.json": "architecture, training settings, preprocessing, classes",
    "predictions.safetensors": "label and probabilities of every test image, once measured",
    "metrics.json": "learning curves and figures of merit",
    "provenance.json": "study, trial, parameters, seed, hashes, versions, machine",
    "manifest.json": "SHA-256 sums that every reader checks; nobody signs them",
}

FIGURES = {
    "figures/curves.png": "Loss and accuracy over the epochs",
    "figures/folds.png": "Accuracy of each fold of the trial that chose the configuration",
    "figures/validation-confusion.png": "Confusion matrix of the validation part",
    "figures/validation-samples.png": "Predictions of validation images: right, wrong, unsure",
    "figures/confusion.png": "Confusion matrix of the test set",
    "figures/samples.png": "Predictions of test images: right, wrong, unsure",
}

MODELS = {
    "svm": "A support vector machine",
    "knn": "A k-nearest-neighbours classifier",
    "random_forest": "A random forest",
    "gradient_boosting": "Histogram gradient boosting",
    "xgboost": "XGBoost",
    "logistic_regression": "Logistic regression",
}
FEATURES = {
    "pixels": "pixels",
    "hog": "histograms of oriented gradients",
    "hog_and_pixels": "histograms of oriented gradients and pixels",
}
SCALINGS = {"sqrt": "square roots", "standard": "standardised"}

PREDICT = """\
## Use

```
fmnist-hpo predict THIS_FOLDER picture.png
```
"""

LIMITS = """\
## Limits

The model knows the classes above and nothing else. It names one of them for any other picture too,
often with high confidence. It was trained on small grey pictures of single things, light on a dark
background. Photographs with scenery are outside of what it has learnt."""

Row = tuple[str, ...]


def write_card(
    config: Config,
    metrics: ModelMetrics,
    provenance: StoredProvenance,
    names: Collection[str],
) -> bytes:
    """The card as Markdown, in UTF-8.

    Args:
        names: the bundle's files; the figures among them are shown.
    """
    kind = KINDS[config.kind]
    sections = [
        _title(kind.what(config), config, provenance),
        _accuracy(metrics),
        _remarks(metrics, provenance),
        _classes(config, metrics),
        _members(config),
        _mirror(config.readout),
        _calibration(config, metrics),
        _figures(names),
        PREDICT + kind.use(config),
        _files(names),
        *(_record(name.title(), config.fields.object(name).values) for name in kind.tables),
        _record("Provenance", provenance.to_json()),
        LIMITS,
    ]
    return ("\n\n".join(section for section in sections if section) + "\n").encode()


def _title(what: str, config: Config, provenance: StoredProvenance) -> str:
    rows, columns = config.image_size
    return (
        f"# {provenance.study}: {provenance.what}\n\n"
        f"{what} that sorts grey pictures of {rows}x{columns} pixels into "
        f"{len(config.classes)} classes: {', '.join(config.classes)}. {_training(provenance)}"
        + "".join(f" Its study was amended: {one}." for one in provenance.amendments)
    )


def _training(provenance: StoredProvenance) -> str:
    tuned, trained = provenance.tuned_on, provenance.trained_on
    if not provenance.refit:
        return (
            f"It was trained on {trained:,} images; {tuned - trained:,} others, the validation "
            "part, chose its configuration."
        )
    if provenance.folds is not None:
        chosen = f"the mean of {provenance.folds} stratified folds of {tuned:,} images"
    else:
        chosen = f"a part held out of {tuned:,} images"
    named = provenance.overridden
    instead = f", with {named} in place of what had been searched with" if named else ""
    return (
        f"Its configuration was chosen by {chosen}; then it was trained on all {trained:,} "
        f"training images, including those that had chosen it{instead}."
    )


def _accuracy(metrics: ModelMetrics) -> str:
    measured = (
        ("validation part", metrics.validation),
        ("test set", metrics.test.metrics if metrics.test else None),
    )
    rows = [(name, *_accuracy_cells(part)) for name, part in measured if part is not None]
    return _table("Accuracy", ("measured on", "images", "accuracy", "95 % interval"), rows)


def _accuracy_cells(part: Metrics) -> Row:
    low, high = part.accuracy_interval
    return f"{part.n:,}", _percent(part.accuracy), f"{_percent(low)} to {_percent(high)}"


def _remarks(metrics: ModelMetrics, provenance: StoredProvenance) -> str:
    confirmed = provenance.confirmation
    parts = (_validation_remark(metrics, provenance), confirmed, _test_remark(metrics.test))
    return " ".join(part for part in parts if part)


def _validation_remark(metrics: ModelMetrics, provenance: StoredProvenance) -> str:
    if metrics.validation is not None:
        return "The validation accuracy is optimistically biased: it is the best of many trials'."
    scores = _percent(provenance.value)
    train = metrics.folds.get("fold_train_score")
    if train:
        scores += (
            " on the images held out, as a mean over its folds, and "
            f"{_percent(sum(train) / len(train))} on those it was trained on"
        )
    chose = "ensemble of the trials' own weights" if provenance.members else "trial"
    return (
        "There is no validation accuracy of this model: it was trained on the validation images, "
        f"too. The {chose} that chose the configuration had {scores}."
    )


def _test_remark(test: SealedMetrics | None) -> str:
    if test is None:
        return "**The test set has not been measured for this bundle.**"
    if test.evaluations == 1:
        first = "**The test set was measured once in this study**, after the configuration was "
        if test.remark:
            return (
                f"{first}chosen. {test.remark} So the test accuracy may be optimistically biased."
            )
        return f"{first}chosen: the test accuracy is an unbiased estimate."
    return (
        f"**The test set was measured {test.evaluations} times in this study.** A choice among "
        "models by these figures makes them optimistically biased."
        + (f" {test.remark}" if test.remark else "")
    )


def _classes(config: Config, metrics: ModelMetrics) -> str:
    part = metrics.test.metrics if metrics.test else metrics.validation
    if part is None:
        return ""
    where = "test set" if metrics.test else "validation part"
    table = _table(
        f"Per class, on the {where}",
        ("class", "precision", "recall", "F1", "n"),
        [
            (one.name, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}",
             f"{one.support:,}")
            for one in part.per_class
        ],
    )  # fmt: skip
    if not config.has_probabilities:
        return (
            f"{table}\n\nThe model returns decision values. They rank the classes but are not "
            "probabilities; a softmax of them is not a confidence."
        )
    return (
        f"{table}\n\nCross-entropy {part.loss:.4f} nats per image; expected calibration error "
        f"{_percent(part.calibration_error)}."
    )


def _members(config: Config) -> str:
    """Who is in an ensemble, and how far the choice flatters it; nothing for a single model."""
    if config.kind != "ensemble":
        return ""
    found = Selection.of(config)
    table = _table(
        "Members",
        ("trial", "counts", "validation accuracy"),
        [(str(one.trial), str(one.count), _percent(one.accuracy)) for one in found.members],
    )
    return f"{table}\n\n{selection_remark(found)}"


def selection_remark(found: Selection) -> str:
    """How an ensemble was chosen, the best single trial beside it, and the warning."""
    return (
        f"Chosen greedily with replacement (Caruana et al. 2004) among {found.candidates} trials "
        f"whose weights were kept, on {found.images:,} validation images: trial "
        f"{found.single.trial} alone has {_percent(found.single.accuracy)} there, the ensemble "
        f"{_percent(found.accuracy)}. The same images chose it, so both figures and their "
        "difference are optimistically biased. The logits are the mean of the members' calibrated "
        "ones; the cost is the sum of theirs."
    )


def _mirror(readout: Readout) -> str:
    """How the mirror image is used, and what decided that; nothing if nobody asked for it."""
    found = readout.evidence
    tried = found is not None and found.gained is not None
    if not readout.flip and not tried:
        return ""
    what = (
        "The logits are the mean over each picture and its mirror image, which costs twice the "
        "FLOPs; `model.onnx` does so too."
        if readout.flip
        else "A mean of the logits over each picture and its mirror image was tried and not taken."
    )
    if found is None or found.gained is None or found.lost is None:
        return f"## Mirror image\n\n{what}"
    by = ", read with the weights before the refit," if found.before_refit else ""
    return (
        f"## Mirror image\n\n{what} Of {found.images:,} validation images{by} "
        f"{found.gained:,} are right only with it and {found.lost:,} only without."
    )


def _calibration(config: Config, metrics: ModelMetrics) -> str:
    """The calibration error before and after the temperature; nothing without probabilities."""
    readout, found = config.readout, config.readout.evidence
    if not config.has_probabilities:
        return ""
    if found is None:
        return "## Calibration\n\nNot calibrated: no validation images were at hand for that."
    where = "validation part, before the refit" if found.before_refit else "validation part"
    rows = [(where, found.raw_calibration_error, found.calibration_error)]
    if metrics.test is not None:
        test = metrics.test.metrics
        rows.append(("test set", test.raw_calibration_error, test.calibration_error))
    table = _table(
        "Calibration",
        ("expected calibration error", "before", "after"),
        [
            (name, "" if raw is None else _percent(raw), "" if after is None else _percent(after))
            for name, raw, after in rows
        ],
    )
    if readout.temperature == 1:
        return (
            f"{table}\n\nThe logits are as they were trained (temperature 1): no other temperature "
            f"minimises the cross-entropy of {found.images:,} validation images."
        )
    return (
        f"{table}\n\nThe logits are divided by a temperature of {readout.temperature:g}, which "
        f"minimises the cross-entropy of {found.images:,} validation images; the error on those is "
        "therefore optimistically biased. It does not change which class is named."
    )


def _figures(names: Collection[str]) -> str:
    shown = [f"![{note}]({name})" for name, note in FIGURES.items() if name in names]
    return "\n\n".join(["## Figures", *shown])


def _files(names: Collection[str]) -> str:
    there = {*names, "manifest.json"}
    there |= {"members/" for name in names if name.startswith("members/")}
    return _table("Files", ("file", "holds"), [row for row in FILES.items() if row[0] in there])


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What differs between the cards of the kinds of models."""

    what: Callable[[Config], str]
    use: Callable[[Config], str]  # without this project
    tables: tuple[str, ...]  # parts of config.json that are shown


def _what_network(config: Config) -> str:
    what = f"A network of the family {config.fields.object('network').text('family').upper()}"
    if not config.fields.object("training").has("patience"):
        return what
    epoch = config.fields.object("epoch")
    kept, trained = epoch.number("kept"), epoch.number("trained")
    return f"{what}, as it was after epoch {kept:g} of {trained:g} (early stopping)"


def _what_ensemble(config: Config) -> str:
    found = Selection.of(config)
    n = len(found.members)
    networks = "of the same network" if n == 1 else f"{n} different networks"
    return f"An ensemble of {found.size} members, {networks},"


def _what_classical(config: Config) -> str:
    pipeline = config.fields.object("pipeline")
    model, features = MODELS[pipeline.text("model")], FEATURES[pipeline.text("features")]
    scaling, components = pipeline.text("scaling"), pipeline.whole("pca_components")
    steps = [] if scaling == "none" else [SCALINGS[scaling]]
    if components:
        steps.append(f"projected on {components} principal components")
    return f"{model} on {features}" + (f" ({', '.join(steps)})" if steps else "")


def _use_network(config: Config) -> str:
    rows, columns = config.image_size
    takes = config.fields.object("preprocessing").text("input")
    return f"""
or without this project, in Python:

```python
import numpy, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
images = numpy.zeros((1, 1, {rows}, {columns}), "float32")  # {takes}
logits = session.run(["logits"], {{"images": images}})[0]  # (n, {len(config.classes)})
# the softmax of the logits gives probabilities; see Calibration
```"""


def _use_classical(config: Config) -> str:
    return f"""
or without this project, in Python, with the versions of the section Provenance:

```python
import skops.io

print(skops.io.get_untrusted_types(file="model.skops"))  # look before you trust
model = skops.io.load("model.skops", trusted=[...])
# features (n, d): {config.fields.text("input")}
classes = model.predict(features)  # (n,) indices into the classes above
```"""


KINDS = {
    "network": _Kind(what=_what_network, use=_use_network, tables=("network", "training")),
    "ensemble": _Kind(what=_what_ensemble, use=_use_network, tables=()),
    "classical": _Kind(what=_what_classical, use=_use_classical, tables=("pipeline",)),
}


def _record(title: str, record: Mapping[str, Any]) -> str:
    return _table(title, ("", ""), list(_flat(record)))


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """Nested records as rows of a table: {"a": {"b": 1}} -> ("a b", "1")."""
    for key, value in record.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, f"`{value}`"


def _table(title: str, heads: Row, rows: Iterable[Row]) -> str:
    """A section with a table; nothing where there are no rows."""
    lines = [heads, ("---",) * len(heads), *rows]
    table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    return f"## {title}\n\n{table}" if len(lines) > 2 else ""


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
