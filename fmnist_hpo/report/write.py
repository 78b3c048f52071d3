"""`write_report`: the page and its figures, into a folder."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmnist_hpo.atomic import write_whole
from fmnist_hpo.errors import InputError
from fmnist_hpo.networks import config
from fmnist_hpo.report import figures
from fmnist_hpo.report.ensemble import ensemble_section
from fmnist_hpo.report.models import Model, calibration_lines, confused
from fmnist_hpo.results.comparison import Comparison, compare
from search.report.page import Bullets, Drawing, Page, Paragraph, Part, Picture, Section, Table
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.study import Study
from search.text import clock, counted, figure, percent, times

__all__ = ["make_page", "report_path", "write_report"]

SHEET = "figures/samples.png"  # in a bundle


def report_path(studies: Sequence[Study]) -> Path:
    """The default folder of a report."""
    return Path("runs", studies[0].name, "report") if len(studies) == 1 else Path("runs", "report")


def write_report(studies: Sequence[Study], directory: Path) -> Path:
    """Write report.html and figures/*.png, *.svg; the path of the page.

    Raises:
        InputError: the folder is not writable, or a bundle is damaged.
    """
    page = directory / "report.html"
    try:
        for name, data in make_page(studies).files().items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(path, public=True) as file:
                file.write(data)
    except OSError as error:
        raise InputError(
            f"cannot write the report into {directory}: {error.strerror}; name another folder"
        ) from error
    return page


def make_page(studies: Sequence[Study]) -> Page:
    """The whole report, as data."""
    reports = [StudyReport.of(study, planned_steps) for study in studies]
    found = [(report.study, report.chosen) for report in reports if report.chosen is not None]
    comparison = compare([study for study, _ in found])
    rows = {
        one.name: (row, one) for row, one in zip(comparison.rows, comparison.chosen, strict=True)
    }
    models = [Model.of(study, best, *rows.pop(study.name)) for study, best in found]
    by_study = {model.study: model for model in models}
    several = len(studies) > 1
    sections = [Section(title="In short", parts=_summary(reports, by_study))]
    if models:
        sections.append(Section(title="The models compared" if several else "What the model costs",
                                parts=_comparison(models, comparison)))  # fmt: skip
    for report in reports:
        model = by_study.get(report.study.name)
        if model is not None:
            sections += _chosen(model) if model.of_images else []
            for row, chosen in rows.values():
                if chosen.bundle is not None and chosen.bundle.provenance.study == model.study:
                    sections += ensemble_section(row, chosen)
        sections += make_sections(report)
    names = ", ".join(study.name for study in studies)
    today = datetime.now(UTC)
    return Page(
        title=f"Report: {names}",
        subtitle=f"Hyperparameter search, made on {today:%Y-%m-%d %H:%M} UTC from the storage"
        + (" and the exported bundles." if any(model.of_images for model in models) else "."),
        sections=sections,
    )


def planned_steps(params: Mapping[str, Any]) -> int | None:
    """Steps of a network's trial that nobody prunes; None for what is no network."""
    try:
        return config.parse(params)[1].steps
    except InputError:  # of another problem, whose parameters may have the same names
        return None


def _summary(reports: Sequence[StudyReport], models: Mapping[str, Model]) -> list[Part]:
    parts: list[Part] = []
    for report in reports:
        name = report.study.name
        lines = report.summary()
        if name in models:
            if models[name].of_images:
                lines[2:2] = _accuracy_lines(models[name])
            exported, best = models[name].trial.number, report.chosen
            if best is not None and exported != best.number:
                lines.insert(
                    2,
                    f"Exported: trial {exported}, not the best; accuracy and cost are those of "
                    f"trial {exported}.",
                )
            lines.append(f"To train the best trial again and compare: fmnist-hpo reproduce {name}")
        if len(reports) > 1:
            parts.append(Paragraph(text=f"Study {name}:"))
        parts.append(Bullets(lines=lines))
    return parts


def _accuracy_lines(model: Model) -> list[str]:
    test, lines = model.test, []
    if (found := model.validation_interval) is not None:
        lines.append(
            f"Validation accuracy: {percent(float(model.trial.value or 0.0))} "
            f"({percent(found[0])} to {percent(found[1])}, {model.validation_images:,} images); "
            "optimistically biased, as the best of many trials."
        )
    if model.row.mirrored and model.row.validation_accuracy is not None:
        lines.append(
            f"Validation accuracy with mirror images: {percent(model.row.validation_accuracy)}."
        )
    made = None if model.bundle is None else model.bundle.provenance
    if made is not None and made.refit:
        instead = f", with {made.overridden} in place of the trial's" if made.overrides else ""
        lines.append(f"Refit: trained again on all {made.trained_on:,} training images{instead}.")
    lines += calibration_lines(model)
    often = times(model.evaluations)
    if test is None:
        lines.append(
            f"Test accuracy: not measured of this model; the study's test set was, {often}."
            if model.evaluations
            else "Test accuracy: the test set is still sealed."
        )
        return lines
    low, high = test.accuracy_interval
    lines.append(
        f"Test accuracy: {percent(test.accuracy)} (95 % interval {percent(low)} to "
        f"{percent(high)}, {test.n:,} images), measured {often}."
        + (f" {model.measured.remark}" if model.measured and model.measured.remark else "")
    )
    worst = min((one for one in test.per_class if one.support), key=lambda one: one.f1)
    pairs = confused(test, 2)
    if pairs:
        lines.append(
            f"Hardest: {worst.name} (F1 {100 * worst.f1:.1f} %); most often confused: "
            + " and ".join(f"{one} with {other}" for one, other, _, _ in pairs)
            + "."
        )
    return lines


def _comparison(models: Sequence[Model], comparison: Comparison) -> list[Part]:
    rows = [
        (
            model.study,
            str(model.trial.number),
            _value(model),
            "" if model.test is None else percent(model.test.accuracy),
            _gap(model),
            clock(model.training_seconds),
            "" if model.row.parameters is None else f"{model.row.parameters:,}",
            "" if model.row.model_bytes is None else f"{model.row.model_bytes / 1e6:.2f}",
            "" if model.latency_ms is None else f"{model.latency_ms:.2f}",
        )
        for model in models
    ]
    parts: list[Part] = [
        Table(
            head=(
                "study",
                "trial",
                "validation",
                "test",
                "train - validation (pp)",
                "training",
                "parameters",
                "size (MB)",
                "latency (ms)",
            ),
            rows=rows,
        ),
        Paragraph(
            text="Training is that of the exported model, or of the best trial where none was "
            "exported, in minutes and seconds. Latency is the median of one image as predict "
            f"runs the model, with {counted(comparison.threads, 'thread')} on the machine that "
            "made this report. Empty cells are not known, as for a study that was not exported."
            if any(model.of_images for model in models)
            else "Training is that of the best trial, in minutes and seconds."
        ),
    ]
    if any(model.row.mirrored for model in models):
        parts.append(
            Paragraph(
                text="A validation accuracy with mirror images is of logits averaged over each "
                "image and its mirror image, as the exported model is read; each other one, here "
                "and in the lists of trials, is of the images alone."
            )
        )
    if comparison.pairs:
        parts.append(
            Bullets(
                lines=[
                    f"{pair.best} against {pair.other}, image by image: {pair.only_best:,} that "
                    f"the first alone has right, {pair.only_other:,} the second alone; McNemar's "
                    f"exact test p = {pair.p_value:.2g}."
                    for pair in comparison.pairs
                ]
            )
        )
    if comparison.notes:
        parts.append(Bullets(lines=[f"Note: {line}." for line in comparison.notes]))
    models = [model for model in models if model.of_images]
    if len(models) > 1 and comparison.one_data_set:
        parts.append(
            Drawing(
                name="models-comparison",
                figure=figures.draw_comparison(models, "Accuracy against cost"),
                caption="The best model of each study, on the test set where it was measured and "
                "else on its validation part. Up and to the left is better.",
            )
        )
    if len(models) > 1 and any(model.fit for model in models):
        parts.append(
            Drawing(
                name="models-overfitting",
                figure=figures.draw_overfitting(models, "Overfitting"),
                caption="Accuracy at the best trial's last step. The training figure is the mean "
                "over the epoch, on augmented images and with dropout where configured, so it can "
                "lie below the validation figure.",
            )
        )
    return parts


def _chosen(model: Model) -> list[Section]:
    test, bundle, name = model.test, model.bundle, model.study
    if test is None or bundle is None:
        why = "has a sealed test set still"
        if bundle is None:
            why = "has not been exported"
        elif model.evaluations:
            why = "was measured with another model"
        text = f"The study {why}, so there are no results for single classes and images."
        return [Section(title=f"{name}: the chosen model", parts=[Paragraph(text=text)])]
    title = f"{name}, {bundle.provenance.what}, test set"
    parts: list[Part] = [
        Paragraph(
            text="These are the results of the sealed measurement, as stored in the bundle; the "
            "report measures nothing."
        ),
        Drawing(
            name=f"{name}-classes",
            figure=figures.draw_classes(test, f"{title}: the hardest classes on top"),
            caption="Precision: how many of those named so are so. Recall: how many of those that "
            "are so were named so. F1: their harmonic mean.",
        ),
        Drawing(
            name=f"{name}-confusion",
            figure=figures.draw_confusion(test, f"{title}: confusion matrix"),
            caption=f"{test.n:,} images. Rows are true classes; the shade is the share of the row.",
        ),
        Table(
            head=("confused with each other", "", "images", "of both classes"),
            rows=[
                (one, other, f"{count:,}", f"{100 * share:.1f} %")
                for one, other, count, share in confused(test)
            ],
        ),
    ]
    if model.predictions is not None and model.has_probabilities:
        parts.append(
            Drawing(
                name=f"{name}-reliability",
                figure=figures.draw_reliability(
                    model.predictions, test.calibration_error, f"{title}: reliability"
                ),
                caption="Below the dashed line the model is surer than it should be.",
            )
        )
    if SHEET in bundle.files:
        parts.append(
            Picture(
                name=f"{name}-samples",
                data=bundle.files[SHEET],
                caption="Test images that the model names rightly and surely, wrongly though "
                "surely, and those it is least sure of.",
            )
        )
    return [Section(title=f"{name}: the chosen model", parts=parts)]


def _value(model: Model) -> str:
    """The trial's value: a percentage, or the number with the metric's name."""
    if model.row.validation_accuracy is not None:
        mirrored = " with mirror images" if model.row.mirrored else ""
        return percent(model.row.validation_accuracy) + mirrored
    return f"{figure(float(model.trial.value or 0.0))} {model.metric}"


def _gap(model: Model) -> str:
    """Training minus validation accuracy, in percentage points."""
    if model.fit is None or model.row.validation_accuracy is None:
        return ""
    return f"{100 * (model.fit[0] - model.fit[1]):+.2f}"
