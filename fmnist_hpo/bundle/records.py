"""What config.json, metrics.json and provenance.json of a bundle hold, as checked records."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from fmnist_hpo.bundle.fields import Fields
from fmnist_hpo.data.dataset import MOST_PIXELS
from fmnist_hpo.metrics import Metrics

__all__ = [
    "Config",
    "Evidence",
    "ModelMetrics",
    "Provenance",
    "Readout",
    "SealedMetrics",
    "StoredProvenance",
]

MOST_CLASSES = 1000
TEMPERATURES = (0.05, 20.0)  # the least and the most that a bundle may have


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the validation images said when a readout was decided."""

    before_refit: bool  # measured with the weights that a refit on all images replaced
    images: int
    accuracy: float  # of the readout, 0 to 1
    gained: int | None = None  # images that are right only with their mirror image; None: not tried
    lost: int | None = None  # images that are right only without
    calibration_error: float | None = None  # None: the model has no probabilities
    raw_calibration_error: float | None = None  # at temperature 1

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Raises InputError where a field is missing or absurd."""

        def share(name: str) -> float | None:
            return fields.number(name, 0, 1) if fields.has(name) else None

        return cls(
            before_refit=fields.flag("before_refit"),
            images=fields.whole("images", 1),
            accuracy=fields.number("accuracy", 0, 1),
            gained=fields.whole("gained") if fields.has("gained") else None,
            lost=fields.whole("lost") if fields.has("lost") else None,
            calibration_error=share("calibration_error"),
            raw_calibration_error=share("raw_calibration_error"),
        )


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How a model's outputs become its answer; a bundle of an earlier version has the defaults."""

    temperature: float = 1.0  # divides the logits
    flip: bool = False  # the logits are the mean over the image and its mirror image
    evidence: Evidence | None = None  # None: no validation images were at hand

    def to_json(self) -> dict[str, Any]:
        """JSON values; `of` reads them back."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Raises InputError where a field is missing or absurd."""
        return cls(
            temperature=fields.number("temperature", *TEMPERATURES),
            flip=fields.flag("flip"),
            evidence=Evidence.of(fields.object("evidence")) if fields.has("evidence") else None,
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """config.json: what a model is and which images it takes."""

    kind: str  # see `kinds`
    classes: tuple[str, ...]  # in the order of the model's outputs
    image_size: tuple[int, int]  # (rows, columns)
    has_probabilities: bool  # False: the outputs are decision values, which only order the classes
    readout: Readout
    fields: Fields  # the whole file; each kind of model reads its own part

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Check the fields that every kind has.

        Raises:
            InputError: one is missing or absurd.
        """
        classes = fields.texts("classes")
        if not 2 <= len(classes) <= MOST_CLASSES or len(set(classes)) < len(classes):
            fields.refuse("classes", f"2 to {MOST_CLASSES:,} different names")
        size = fields.wholes("image_size", 1, MOST_PIXELS)
        if len(size) != 2 or size[0] * size[1] > MOST_PIXELS:
            fields.refuse("image_size", f"[rows, columns] of at most {MOST_PIXELS:,} pixels")
        return cls(
            kind=fields.text("kind"),
            classes=classes,
            image_size=(size[0], size[1]),
            has_probabilities=fields.values.get("outputs") != "decision values",
            readout=Readout.of(fields.object("readout")) if fields.has("readout") else Readout(),
            fields=fields,
        )


@dataclass(frozen=True, kw_only=True)
class SealedMetrics:
    """What the sealed measurement found, as it stands in a bundle."""

    evaluations: int  # how many measurements the study had had, this one included
    metrics: Metrics
    hashes: Mapping[str, str]  # test file -> SHA-256 of its decompressed content
    remark: str = ""  # what could be known of the test set before

    def to_json(self) -> dict[str, Any]:
        """JSON values; `of` reads them back."""
        return {
            "evaluations": self.evaluations,
            **self.metrics.to_json(),
            "hashes": dict(self.hashes),
            **({"remark": self.remark} if self.remark else {}),
        }

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Raises InputError where a field is missing or absurd."""
        return cls(
            evaluations=fields.whole("evaluations", 1),
            metrics=_metrics(fields),
            hashes=fields.labels("hashes"),
            remark=fields.text("remark") if fields.has("remark") else "",
        )


@dataclass(frozen=True, kw_only=True)
class ModelMetrics:
    """metrics.json: how the training went and how good the model is."""

    curves: Mapping[str, list[float]]  # one value per step each; empty without steps
    folds: Mapping[str, list[float]]  # one value per fold each; empty without folds
    fit_seconds: float
    validation: Metrics | None  # None: the model was trained on the validation part too
    test: SealedMetrics | None  # None: not measured

    def to_json(self) -> dict[str, Any]:
        """JSON values; `of` reads them back."""
        return {
            "curves": dict(self.curves),
            "folds": dict(self.folds),
            "fit_seconds": self.fit_seconds,
            "validation": None if self.validation is None else self.validation.to_json(),
            "test": None if self.test is None else self.test.to_json(),
        }

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Raises InputError where a field is missing or absurd."""
        return cls(
            curves=fields.series("curves"),
            folds=fields.series("folds"),
            fit_seconds=fields.number("fit_seconds", 0),
            validation=_metrics(fields.object("validation")) if fields.has("validation") else None,
            test=SealedMetrics.of(fields.object("test")) if fields.has("test") else None,
        )


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the exported weights come from, as far as the study knows it."""

    study: str
    study_uid: str  # of two studies of one name each has its own
    trial: int
    params: Mapping[str, Any]
    seed: int
    value: float  # the trial's validation accuracy as stored, 0 to 1
    spec_hash: str  # of the frozen study file
    git_commit: str | None  # of the checkout that exported; None: no checkout
    environment: Mapping[str, str]  # versions, processor, device, threads where they were trained
    refit: bool  # trained again on all training images; then `split` validates nothing
    folds: int | None  # of the cross-validation that chose it; None: one part was held out
    tuned_on: int  # images that the trials saw, training and validation together
    trained_on: int  # images that the exported model was trained on
    amendments: tuple[str, ...] = ()  # of the study since it was created, a line each
    confirmation: str | None = None  # what came of training the best trials again, in sentences
    # Of a refit: its parameters that stood in place of the trial's, which are `params`.
    overrides: Mapping[str, Any] = field(default_factory=dict)
    # Of an ensemble: trial -> how often it counts; then `trial` is the best of them, `value` the
    # ensemble's validation accuracy without mirror images, and `params` is empty.
    members: Mapping[str, int] = field(default_factory=dict)

    @property
    def overridden(self) -> str:
        """The overrides as a study file writes them: `epochs = 20, schedule = "one-cycle"`."""
        return ", ".join(f"{name} = {json.dumps(x)}" for name, x in self.overrides.items())

    @property
    def what(self) -> str:
        """The model in a few words: the trial, or the trials of an ensemble."""
        if not self.members:
            return f"trial {self.trial}"
        names = [name if n == 1 else f"{name} ({n} times)" for name, n in self.members.items()]
        if len(names) == 1:
            return f"ensemble of trial {names[0]}"
        return f"ensemble of trials {', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True, kw_only=True)
class StoredProvenance(Provenance):
    """provenance.json."""

    data_hashes: Mapping[str, str]  # training file -> SHA-256 of its decompressed content
    split_hash: str

    def to_json(self) -> dict[str, Any]:
        """JSON values; `of` reads them back."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Raises InputError where a field is missing or absurd."""
        return cls(
            study=fields.text("study"),
            study_uid=fields.text("study_uid"),
            trial=fields.whole("trial"),
            params=fields.scalars("params"),
            seed=fields.whole("seed", high=2**64),
            value=fields.number("value"),
            spec_hash=fields.text("spec_hash"),
            git_commit=fields.text("git_commit") if fields.has("git_commit") else None,
            environment=fields.labels("environment"),
            refit=fields.flag("refit"),
            folds=fields.whole("folds", 2) if fields.has("folds") else None,
            tuned_on=fields.whole("tuned_on"),
            trained_on=fields.whole("trained_on"),
            amendments=fields.texts("amendments") if fields.has("amendments") else (),
            confirmation=fields.text("confirmation") if fields.has("confirmation") else None,
            overrides=fields.scalars("overrides") if fields.has("overrides") else {},
            members=_members(fields.object("members")) if fields.has("members") else {},
            data_hashes=fields.labels("data_hashes"),
            split_hash=fields.text("split_hash"),
        )


def _members(fields: Fields) -> dict[str, int]:
    return {name: fields.whole(name, 1) for name in fields.values}


def _metrics(fields: Fields) -> Metrics:
    classes = fields.texts("classes")
    rows = fields.values.get("confusion")
    if not isinstance(rows, list) or len(rows) != len(classes):
        fields.refuse("confusion", f"{len(classes)} rows")
    numbered = Fields({str(n): row for n, row in enumerate(rows)}, f"{fields.where}: confusion")
    confusion = tuple(numbered.wholes(name) for name in numbered.values)
    if any(len(row) != len(classes) for row in confusion) or not any(map(any, confusion)):
        fields.refuse("confusion", f"rows of {len(classes)} counts, not all of them 0")
    return Metrics(
        classes=classes,
        confusion=confusion,
        loss=fields.number("loss"),
        calibration_error=fields.number("calibration_error", 0, 1),
        raw_calibration_error=fields.number("raw_calibration_error", 0, 1)
        if fields.has("raw_calibration_error")
        else None,
    )
