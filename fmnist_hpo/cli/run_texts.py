"""What `run` shows before and after a search of image models, and what `reproduce` adds."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from fmnist_hpo.bundle import Bundle, check_replaceable
from fmnist_hpo.bundle.calibration import Flip
from fmnist_hpo.cli.texts import readout, say, with_interval
from fmnist_hpo.environment import processor
from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.results import measurement, places, winner
from fmnist_hpo.results.showcase import showcase
from fmnist_hpo.results.trial_model import keeps_model
from search.aims.confirmed import CONFIRMED
from search.cli.hints import storage_option, storage_remark
from search.cli.tables import print_best_line, print_differences
from search.problem import Problem
from search.spec import StudySpec
from search.study import Study
from search.text import show_trial, times
from search.worker.reproduce import differences

__all__ = ["check", "describe", "finish", "reproduced"]


def check(
    spec: StudySpec, problem: Problem, study: Study | None, *, refit: bool, flip: Flip
) -> None:
    """Refuse a run whose best trial could not be exported at its end.

    Args:
        study: None for one that is not stored yet.
        refit, flip: how the best trial will be exported.

    Raises:
        InputError: a folder of another study stands where the bundle goes, or nothing will be there
            to decide `flip` on.
    """
    if not isinstance(problem, ImageProblem) or len(spec.aims) > 1:
        return
    check_replaceable(
        places.bundle_path(spec),
        spec.name,
        None if study is None else study.uid,
        instead="give the study another name with --name",
    )
    undecided = flip == "auto" and (refit or problem.folds is not None) and not keeps_model(problem)
    if undecided and (study is None or not study.status().over):
        raise winner.undecided()


def describe(study: Study) -> list[tuple[str, str]]:
    """Lines shown before a run: data, split, processor."""
    lines = [("processor", processor())]
    problem = study.problem
    if isinstance(problem, ImageProblem):
        name = "Fashion-MNIST" if problem.known else "idx files"
        sums = problem.fingerprint()
        files = ", ".join(
            f"{file.split('-idx')[0]} {sums[file][:12]}" for file in problem.data.hashes
        )
        lines.insert(0, ("data", f"{name} in {problem.directory} ({files})"))
        lines.insert(1, ("split", f"{problem.describe_split()} ({problem.split_hash[:12]})"))
        why = measurement.unmeasurable(study)
        if why is not None and not measurement.measurements(study):
            lines.insert(1, ("test", f"{why}; without it the run ends with the export"))
    return lines


def finish(study: Study, *, refit: bool, flip: Flip, storage: str, prog: str) -> int:
    """Export the best trial, measure it once on the test set, and print the result.

    What an earlier call did is not repeated, only printed. A study of anything but image models has
    nothing to export: its best trial is printed.
    """
    if not isinstance(study.problem, ImageProblem):
        print_best_line(study)
        return 0
    if len(study.spec.aims) > 1:
        print_best_line(study)
        bound = f"{study.spec.metrics[1]}{'<=' if study.spec.directions[1] == 'minimize' else '>='}"
        option = storage_option(storage)
        print(f'next        {prog} export {study.name} --prefer "{bound}NUMBER"{option}')
        print(f"            {prog} export {study.name} --trial N{option}")
        return 0
    best, path = study.best, places.bundle_path(study)
    bundle = places.find_bundle(study)
    sealed = measurement.measurements(study, bundle) == 0
    refits = refit or study.problem.folds is not None
    overrides = study.spec.refit if refits else None
    if bundle is None or (sealed and not _is_wanted(bundle, best.number, overrides, flip)):
        print(f"exporting trial {best.number} to {path}", flush=True)
        bundle = winner.export_trial(
            study, best.number, path, refit=refit, flip=flip, train=True, say=say
        )
    elif not _is_trained_as(bundle, overrides):
        option = f" --refit{'' if flip == 'no' else f' --flip {flip}'}{storage_option(storage)}"
        again = f"{prog} export {study.name}{option}"
        how = " as [refit] says now" if bundle.provenance.refit else ""
        print(f"{path} is not refitted{how}: `{again}` replaces it")
    elif not _is_wanted(bundle, bundle.provenance.trial, overrides, flip):
        option = f"{' --refit' if refit else ''} --flip {flip}{storage_option(storage)}"
        print(
            f"{path} was exported without --flip {flip}: `{prog} export {study.name}{option}` "
            "replaces it"
        )
    bundle = measurement.attach_recorded(study, bundle)
    if sealed and measurement.unmeasurable(study) is None:
        print("measuring the test set, once", flush=True)
        measurement.measure(study, bundle, again=False)
        bundle = Bundle.open(path)  # with the measurement in it
    showcase(study, bundle)
    _summary(study, bundle, storage, prog)
    return 0


def _is_trained_as(bundle: Bundle, overrides: Mapping[str, Any] | None) -> bool:
    """Whether a bundle is a refit with these overrides; any bundle for None."""
    made = bundle.provenance
    return overrides is None or (made.refit and made.overrides == overrides)


def _is_wanted(bundle: Bundle, best: int, overrides: Mapping[str, Any] | None, flip: Flip) -> bool:
    """Whether a bundle that was exported before is the one to spend the one measurement on.

    Args:
        overrides: as in `_is_trained_as`.
    """
    provenance, readout = bundle.provenance, bundle.config.readout
    if flip == "auto":
        flipped = readout.evidence is not None and readout.evidence.gained is not None
    else:
        flipped = readout.flip or flip == "no"
    return provenance.trial == best and _is_trained_as(bundle, overrides) and flipped


def _summary(study: Study, bundle: Bundle, storage: str, prog: str) -> None:
    best, measured = study.best, measurement.recorded(study, bundle)
    number, count = bundle.provenance.trial, measurement.measurements(study, bundle)
    often = times(count)
    print(f"\nbest trial  {best.number}: {show_trial(best, study.params(best))}")
    print(f"validation  {_validation(study, bundle)}")
    for label, line in zip(("confirmed", ""), winner.confirmed_lines(study), strict=False):
        print(f"{label:<11} {line.removeprefix(CONFIRMED)}")
    if not count:
        print(f"test        not measured: {measurement.unmeasurable(study)}")
    elif measured is None and bundle.metrics.test is not None:
        print(f"test        measured {often}, as the bundle says; the storage knows nothing of it")
    elif measured is None:
        print(f"test        not measured of this bundle; another of the study was, {often}")
    else:
        made = bundle.provenance
        overridden = f" with {made.overridden}" if made.overrides else ""
        how = f"measured {often}; trained on {made.trained_on:,} images{overridden}"
        print(f"test        {with_interval(measured.evaluation.metrics)} ({how})")
        if measured.remark:
            print(f"            {measured.remark}")
    print(f"readout     {readout(bundle)}")
    of = "" if number == best.number else f" (of trial {number})"
    print(f"bundle      {bundle.path}{of}")
    where = storage_option(storage)
    print(f"next        {prog} reproduce {study.name}{where}")
    print(f"            {prog} predict {bundle.path} IMAGE.png")
    print(f"            {prog} dashboard{where}")
    print(f"            {prog} report {study.name}{where}")
    if (remark := storage_remark(storage)) is not None:
        print(f"            {remark}")


def _validation(study: Study, bundle: Bundle) -> str:
    text = f"{100 * (study.best.value or 0.0):.2f} % accuracy"
    folds = bundle.metrics.folds.get("fold_train_score")
    if not folds:
        return text
    train = sum(folds) / len(folds)
    return f"{text}, training {100 * train:.2f} % (means over {len(folds)} folds)"


def reproduced(study: Study, trial: FrozenTrial, prog: str) -> None:
    """Say if the exported model is a refit of the trial, which the verdict does not cover."""
    if not isinstance(study.problem, ImageProblem):
        return
    try:
        bundle = places.find_bundle(study)
    except InputError:  # damaged, as whoever uses it is told
        return
    if bundle is None:
        return
    made = bundle.provenance
    if made.trial != trial.number or not made.refit:
        return
    differs = {
        key: both
        for key, both in differences(made.environment, study.problem.environment()).items()
        if key != "threads"  # those of the trial, for the verdict
    }
    again = f"{prog} export {study.name} --refit{storage_option(study.storage.address)}"
    as_now = made.overrides == study.spec.refit
    print(
        f"not covered: {bundle.path} holds this configuration, retrained on all "
        f"{made.trained_on:,} images{f' with {made.overridden}' if made.overrides else ''}"
        f"{', in another environment' if differs else ''}; "
        + (f"`{again}` does that again" if as_now else "its [refit] has changed since")
    )
    print_differences(differs)
