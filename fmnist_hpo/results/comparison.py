"""Studies of any kind in one table: how good their models are, what they cost, and who is better.

Nothing is measured on the test set here. Accuracies come from the measurement that each study has
recorded, and the prediction of each image from the bundle in which that measurement stored it.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.ensemble import Selection
from fmnist_hpo.bundle.kinds import size_of
from fmnist_hpo.bundle.predictions import FILE, Predictions
from fmnist_hpo.data.files import FILES, IMAGES, LABELS
from fmnist_hpo.environment import threads
from fmnist_hpo.results.measurement import Measured, measurements, recorded
from fmnist_hpo.results.places import bundle_path, can_export, ensemble_path, find_bundle
from fmnist_hpo.results.speed import measure_speed
from search import attributes
from search.outcome import value_of
from search.study import Study
from search.text import counted, figure, finite

__all__ = ["Chosen", "Comparison", "Paired", "Row", "compare", "mcnemar"]

FRONT_SHOWN = 5  # trials of a front in a note


@dataclass(frozen=True, kw_only=True)
class Row:
    """One study; None where it has no such figure, or its model was not exported or measured."""

    study: str
    model: str  # family of the network, or the classical model
    validation_accuracy: float | None  # of the exported trial, else the best; 0 to 1
    test_accuracy: float | None = None  # as recorded, 0 to 1
    test_low: float | None = None  # Wilson's 95 % interval
    test_high: float | None = None
    test_measurements: int = 0
    test_remark: str = ""  # what could be known of the test set before
    train_seconds: float | None = None  # of the exported model
    search_seconds: float  # in which at least one worker was at work
    parameters: int | None = None
    model_bytes: int | None = None
    flops: int | None = None  # of one image
    latency_seconds: float | None = None  # of one image
    images_per_second: float | None = None  # in batches of 1,000
    metric: str = "val_accuracy"
    value: float | None = None  # of that trial, in the metric's own unit
    mirrored: bool = False  # whether `value` is that of logits averaged with the mirror image
    data: str = ""  # the data set: "Fashion-MNIST", or the start of a hash over its files


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The best study of a data set and another one, image by image of the test set."""

    best: str
    other: str
    only_best: int  # images that the best alone has right
    only_other: int
    p_value: float  # McNemar's exact test, two-sided


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """The model that a row is about, read once: a report shows more of it."""

    name: str  # of the row
    path: Path  # where the bundle lies, or would
    bundle: Bundle | None  # None: not exported
    measured: Measured | None  # of this very model; None also when only another one was measured
    predictions: Predictions | None  # of that measurement
    measurements: int  # how often the study's test set was measured, whatever the model


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of `compare`."""

    rows: tuple[Row, ...]  # as the studies were given
    chosen: tuple[Chosen, ...] = ()  # one for each row; not in the JSON
    pairs: tuple[Paired, ...]  # of each data set, its best study against each other one
    notes: tuple[str, ...] = ()  # what may not be compared, and why
    missing: tuple[str, ...]  # a line for each gap in the table, with the command that fills it
    threads: int  # of the prediction, where speed was measured

    @property
    def one_data_set(self) -> bool:
        """Whether all rows are of one data set, so that their accuracies can be compared."""
        return len({row.data for row in self.rows}) < 2

    def to_json(self) -> str:
        """Everything but the models themselves, as one JSON object."""
        value = {
            "rows": [asdict(row) for row in self.rows],
            "pairs": [asdict(pair) for pair in self.pairs],
            "notes": self.notes,
            "missing": self.missing,
            "threads": self.threads,
        }
        return json.dumps(finite(value), indent=2, allow_nan=False)


def compare(studies: Sequence[Study]) -> Comparison:
    """Compare the exported models of studies, else their best trials.

    An ensemble of a study has a row of its own, behind the study's.

    Raises:
        NoResult: a study has no complete trial.
        InputError: a bundle is damaged.
    """
    entries = []
    for study in studies:
        entries.append((study, _choose(study, study.name, find_bundle(study), bundle_path(study))))
        if (found := find_bundle(study, ensemble_path(study))) is not None:
            name = f"{study.name}, ensemble"
            entries.append((study, _choose(study, name, found, ensemble_path(study))))
    chosen = [one for _, one in entries]
    rows = [_row(study, one) for study, one in entries]
    pairs, unpaired = _pairs(rows, chosen)
    return Comparison(
        rows=tuple(rows),
        chosen=tuple(chosen),
        pairs=tuple(pairs),
        notes=(*_notes(studies, rows), *unpaired, *_tests(pairs)),
        missing=tuple(line for study, one in entries for line in _gaps(study, one)),
        threads=threads(),
    )


def _choose(study: Study, name: str, bundle: Bundle | None, path: Path) -> Chosen:
    measured = recorded(study, bundle)
    return Chosen(
        name=name,
        path=path,
        bundle=bundle,
        measured=measured,
        predictions=_predictions(bundle, measured),
        measurements=measurements(study),
    )


def _gaps(study: Study, one: Chosen) -> Iterator[str]:
    """What a study lacks for a full row, each with the command that adds it."""
    if not can_export(study):
        return
    name, path = one.name, one.path
    if one.bundle is None:
        which = " --trial N" if len(study.spec.aims) > 1 else ""
        yield f"{name}: no bundle in {path}; `export {study.name}{which}`"
    if one.measured is None and one.measurements:
        yield (
            f"{name}: the test set was measured of another model of the study, not of this "
            f"one; `evaluate {shlex.quote(str(path))} --again`"
        )
    elif one.measured is None:
        yield f"{name}: test set not measured; `evaluate {shlex.quote(str(path))}`"
    elif one.bundle is not None and one.predictions is None:
        yield f"{name}: {path} does not hold the predictions of its measurement"
    if one.measured is not None and one.measured.remark:
        yield f"{name}: {one.measured.remark}"


def _notes(studies: Sequence[Study], rows: Sequence[Row]) -> Iterator[str]:
    """The front of each study with two metrics, and where accuracies cannot be compared."""
    for study in studies:
        if attributes.CONFIRMS in study.ledger.attrs:
            yield (
                f"{study.name} repeats the best trials of another study; its best is the luckiest "
                "repeat, and the means are in that study's report"
            )
        if len(study.spec.aims) > 1:
            yield f"{study.name} has two metrics; its front of {_front(study)}"
    sets = _grouped((row.data, row.study) for row in rows)
    if len(sets) > 1:
        yield (
            f"different data sets: {_listed(sets)}; their accuracies are not comparable, and no "
            "test is made across them"
        )
    for data, names in sets.items():
        splits = _grouped(
            (study.fingerprint.get("split", "")[:12], study.name)
            for study in studies
            if study.name in names
        )
        if len(splits) > 1:
            yield (
                f"different validation parts of {data}: {_listed(splits)}; compare their test "
                "accuracies"
            )


def _tests(pairs: Sequence[Paired]) -> Iterator[str]:
    """What the p-values leave out, where there are several."""
    if len(pairs) > 1:
        yield (
            f"p is of each of the {len(pairs)} tests alone: it corrects neither for their number "
            "nor for the choice of the best by these figures"
        )


def _front(study: Study) -> str:
    """How many trials are on a front, and the first of them with their values."""
    front = study.pareto
    shown = "; ".join(
        f"trial {trial.number}: "
        + ", ".join(
            f"{name} {figure(value)}"
            for name, value in zip(study.spec.metrics, trial.values, strict=True)
        )
        for trial in front[:FRONT_SHOWN]
    )
    more = f"; and {len(front) - FRONT_SHOWN} more" if len(front) > FRONT_SHOWN else ""
    return f"{len(front)}: {shown}{more}"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups


def _listed(groups: dict[str, list[str]]) -> str:
    return "; ".join(f"{', '.join(names)} on {key}" for key, names in groups.items())


def _data(study: Study) -> str:
    """A short name of the data set that a study was created on."""
    hashes = {name: value for name, value in study.fingerprint.items() if name != "split"}
    if hashes == {name: FILES[name] for name in (IMAGES, LABELS)}:
        return "Fashion-MNIST"
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """McNemar's exact test: the two-sided p-value that two classifiers err equally often.

    Args:
        one, other: (n,), whether each has the image right; the same images in the same order.

    Source: McNemar 1947; exact: binomial over the images that one alone has right.
    """
    from scipy.stats import binomtest

    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def _row(study: Study, one: Chosen) -> Row:
    bundle, measured = one.bundle, one.measured
    if bundle is not None:
        trial = study.trial(bundle.provenance.trial)
    elif measured is not None and measured.trial is not None:
        trial = study.trial(measured.trial)
    else:
        trial = study.pareto[0]
    value, mirrored = value_of(trial), False
    if bundle is not None and (bundle.provenance.members or bundle.config.readout.flip):
        readout = bundle.config.readout
        if readout.evidence is not None:  # of the model as it is read, not the trial's
            value, mirrored = readout.evidence.accuracy, readout.flip
    figures: dict[str, Any] = {}
    if measured is not None:
        metrics = measured.evaluation.metrics
        figures["test_accuracy"] = metrics.accuracy
        figures["test_low"], figures["test_high"] = metrics.accuracy_interval
        figures["test_measurements"], figures["test_remark"] = measured.count, measured.remark
    if bundle is not None:
        figures["train_seconds"] = bundle.metrics.fit_seconds
        figures |= asdict(size_of(bundle)) | measure_speed(bundle)
    return Row(
        study=one.name,
        model=_model(study, bundle, trial),
        validation_accuracy=value if study.spec.metric in study.percent else None,
        metric=study.spec.metric,
        value=value,
        mirrored=mirrored,
        search_seconds=study.ledger.elapsed(),
        data=_data(study),
        **figures,
    )


def _model(study: Study, bundle: Bundle | None, trial: FrozenTrial) -> str:
    """What kind of model a row is about, in a few words."""
    if bundle is not None and bundle.provenance.members:
        found = Selection.of(bundle.config)
        return f"{counted(len(found.members), 'network')}, ensemble of {found.size}"
    params = study.params(trial)
    return str(params.get("family") or params.get("model") or study.spec.problem.split(":")[-1])


def _predictions(bundle: Bundle | None, measured: Measured | None) -> Predictions | None:
    """Those of the recorded measurement; None when the bundle has none, or another one's."""
    if bundle is None or measured is None or FILE not in bundle.files:
        return None
    found = Predictions.from_bytes(bundle.read(FILE))
    return found if found.confusion() == measured.evaluation.metrics.confusion else None


def _pairs(rows: Sequence[Row], chosen: Sequence[Chosen]) -> tuple[list[Paired], list[str]]:
    """The tests within each test set, and a line for each study that is alone on its test set."""
    known = {
        row.study: (row, one.predictions, sorted(one.measured.evaluation.hashes.items()))
        for row, one in zip(rows, chosen, strict=True)
        if one.predictions is not None and one.measured is not None
    }
    sets = _grouped((json.dumps(hashes), name) for name, (_, _, hashes) in known.items())
    pairs, alone = [], []
    for names in sets.values():
        best = max(names, key=lambda name: known[name][0].test_accuracy or 0.0)
        mine = known[best][1].right
        for name in names:
            if name != best:
                pairs.append(_paired(best, mine, name, known[name][1].right))
        if len(names) == 1 and len(known) > 1:
            alone.append(
                f"{best}: no other study was measured on its test set, so it has no McNemar test"
            )
    return pairs, alone


def _paired(best: str, mine: NDArray[np.bool_], other: str, theirs: NDArray[np.bool_]) -> Paired:
    return Paired(
        best=best,
        other=other,
        only_best=int((mine & ~theirs).sum()),
        only_other=int((theirs & ~mine).sum()),
        p_value=mcnemar(mine, theirs),
    )
