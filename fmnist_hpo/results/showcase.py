"""What optuna-dashboard shows of a study of networks: learning curves, the best one's figures."""

import logging

from fmnist_hpo.bundle import Bundle
from search import attributes
from search.dashboard import Artifacts, Pictures
from search.outcome import value_of
from search.study import Study
from search.supervisor.run import annotate
from search.text import times

__all__ = ["showcase"]

log = logging.getLogger(__name__)

MOST_CURVES = 50  # drawn, those of the best trials; the page has each trial's accuracies anyway


def showcase(study: Study, bundle: Bundle) -> None:
    """Attach figures to a study's trials and write its note; existing attachments are kept.

    The best complete trials get their learning curves, the bundle's trial the bundle's figures and
    card. An ensemble is of no single trial: nothing is done for it. An error in drawing or
    attaching is logged as a warning; the study does not fail.
    """
    if bundle.provenance.members:
        return
    remarks = []
    try:
        pictures = Pictures(study.optuna, study.uid, Artifacts(study.storage.optuna))
        _attach_curves(study, pictures)
        remarks.append(_attach_bundle(study, pictures, bundle))
    except Exception as error:
        log.warning("figures for the dashboard were not drawn: %s: %s", type(error).__name__, error)
    annotate(study, remarks=remarks)


def _attach_curves(study: Study, pictures: Pictures) -> None:
    from fmnist_hpo.bundle.figures import draw_curves

    sign = -1.0 if study.spec.direction == "maximize" else 1.0
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    complete.sort(key=lambda trial: sign * (value_of(trial) or 0.0))
    for trial in complete[:MOST_CURVES]:
        curves = trial.user_attrs.get(attributes.CURVES, {})
        if "train_loss" in curves and not pictures.has(trial, "curves.png"):
            share = study.params(trial).get("report_every", 1.0)
            title = f"{study.name}, trial {trial.number}"
            drawn = draw_curves(curves, title, report_every=share)
            pictures.attach(trial, "curves.png", drawn)


def _attach_bundle(study: Study, pictures: Pictures, bundle: Bundle) -> str:
    """Attach what a bundle shows to its trial; the line of the note on it."""
    trial = study.trial(bundle.provenance.trial)
    for name, data in bundle.files.items():
        # the curves of a refit are not the trial's; its own are drawn above
        if name.startswith("figures/") and name != "figures/curves.png":
            pictures.attach(trial, name.removeprefix("figures/"), data)
    card = pictures.attach(trial, "model-card.txt", bundle.read("MODEL_CARD.md"))
    line = f"**Bundle:** `{bundle.path}` of trial {trial.number} ([model card]({card}))"
    if bundle.metrics.test is None:
        return line + ", test set not measured"
    sealed = bundle.metrics.test
    low, high = sealed.metrics.accuracy_interval
    said = (
        f"{line}, test accuracy {100 * sealed.metrics.accuracy:.2f} % (95 % interval "
        f"{100 * low:.2f} to {100 * high:.2f}; the study's test set was measured "
        f"{times(sealed.evaluations)})"
    )
    return f"{said}. {sealed.remark}" if sealed.remark else said
