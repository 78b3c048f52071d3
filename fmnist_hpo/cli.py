"""`fmnist-hpo`: the generic verbs, and those that know images, networks and bundles.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_hpo.errors import InputError
from search import cli
from search.application import Application, say_best
from search.verbs import open_named

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.metrics import Metrics
    from search.study import Study

__all__ = ["main"]

PROG = "fmnist-hpo"


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit code."""
    top, verbs = cli.parser(
        APPLICATION, "Hyperparameter search on Fashion-MNIST that finishes exactly what you asked."
    )
    cli.add_verbs(verbs, APPLICATION)
    _add_bundle_verbs(verbs)
    data = cli.add_verb(
        verbs,
        "data",
        _data,
        "fetch the data set, or verify every byte of it",
        f"{PROG} data verify",
    )
    data.add_argument(
        "action",
        choices=("fetch", "verify"),
        help="fetch asks the network only where it is missing",
    )
    doctor = cli.add_verb(
        verbs,
        "doctor",
        _doctor,
        "say what is installed here, what is missing, and what to do about it",
        f"{PROG} doctor --storage postgresql://user@host/studies",
    )
    cli.add_storage(doctor)
    for verb in (data, doctor):
        _add_data_dir(verb)
    return cli.run_main(top, argv, errors=(InputError,))


def _add_bundle_verbs(verbs: cli.Verbs) -> None:
    export = cli.add_verb(
        verbs,
        "export",
        _export,
        "write the best trial's bundle: weights, ONNX, card, figures",
        f"{PROG} export quick --refit",
    )
    export.add_argument("study", metavar="STUDY", help=_STORED_HELP)
    export.add_argument("--trial", type=int, metavar="N", help="its number (default: the best)")
    export.add_argument("--out", type=Path, metavar="DIR", help="default: runs/STUDY/bundle")
    export.add_argument("--refit", action="store_true", help=_REFIT_HELP)
    export.add_argument("--checkpoints", metavar="PLACE", help="where they lie (default: as run)")
    evaluate = cli.add_verb(
        verbs,
        "evaluate",
        _evaluate,
        "measure a bundle on the test set, once per study",
        f"{PROG} evaluate runs/quick/bundle",
    )
    evaluate.add_argument("bundle", type=Path, metavar="BUNDLE", help=_BUNDLE_HELP)
    evaluate.add_argument(
        "--again", action="store_true", help="measure though the study was measured before"
    )
    predict = cli.add_verb(
        verbs,
        "predict",
        _predict,
        "say what is on images",
        f"{PROG} predict runs/quick/bundle shoe.png",
    )
    predict.add_argument("bundle", type=Path, metavar="BUNDLE", help=_BUNDLE_HELP)
    predict.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, npy or idx"
    )
    compare = cli.add_verb(
        verbs,
        "compare",
        _compare,
        "put the winners of studies in one table: accuracy, cost, size, speed, who is better",
        f"{PROG} compare ann cnn --csv comparison.csv",
    )
    compare.add_argument("studies", nargs="+", metavar="STUDY", help=_STORED_HELP)
    output = compare.add_mutually_exclusive_group()
    output.add_argument("--csv", type=Path, metavar="FILE", help="write the table there, too")
    output.add_argument("--json", action="store_true", help="one JSON object instead")
    report = cli.add_verb(
        verbs,
        "report",
        _report,
        "write a page on studies that needs nothing else, and its figures as PNG and SVG",
        f"{PROG} report ann cnn --out report",
    )
    report.add_argument("studies", nargs="+", metavar="STUDY", help=_STORED_HELP)
    report.add_argument(
        "--out", type=Path, metavar="DIR", help="default: runs/STUDY/report, of several runs/report"
    )
    for verb in (export, evaluate, compare, report):
        cli.add_storage(verb)
        _add_data_dir(verb)


_STORED_HELP = "the name of a study in the storage, or its file"
_BUNDLE_HELP = "a folder that run or export wrote"
_REFIT_HELP = "train the best configuration anew on training and validation images together"


def _add_options(verb: str, parser: argparse.ArgumentParser) -> None:
    if verb in ("run", "create", "plan", "worker", "reproduce"):
        _add_data_dir(parser)
    if verb == "run":
        parser.add_argument("--refit", action="store_true", help=_REFIT_HELP)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where Fashion-MNIST lies (default: $FMNIST_HPO_DATA, the system's copy, the cache, "
        "else it is fetched)",
    )


def _prepare(args: argparse.Namespace) -> None:
    if getattr(args, "data_dir", None):
        os.environ["FMNIST_HPO_DATA"] = args.data_dir  # for the workers as well


def _describe(study: "Study") -> list[tuple[str, str]]:
    from fmnist_hpo.bundle import check_replaceable
    from fmnist_hpo.environment import processor
    from fmnist_hpo.image_problem import ImageProblem
    from fmnist_hpo.winner import bundle_path, measurements, unmeasurable

    lines = [("processor", processor())]
    problem = study.problem
    if isinstance(problem, ImageProblem):
        check_replaceable(bundle_path(study), study.name, study.uid)  # before a long search
        name = "Fashion-MNIST" if problem.known else "idx files"
        sums = problem.fingerprint()
        files = ", ".join(
            f"{file.split('-idx')[0]} {sums[file][:12]}" for file in problem.data.hashes
        )
        lines.insert(0, ("data", f"{name} in {problem.directory} ({files})"))
        lines.insert(1, ("split", f"{problem.describe_split()} ({problem.split_hash[:12]})"))
        why = unmeasurable(study)
        if why is not None and not measurements(study):
            lines.insert(1, ("test", f"{why}; without it the run ends with the export"))
    return lines


def _gpus() -> tuple[str, ...]:
    from fmnist_hpo.environment import gpus

    return gpus()


def _finish(study: "Study", args: argparse.Namespace) -> int:
    """Export the best trial, measure it once, and say what came out; done before, only say it.

    A study of something else than models of images has nothing to export: its best is named.
    """
    from fmnist_hpo import winner
    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.image_problem import ImageProblem
    from fmnist_hpo.showcase import showcase

    if not isinstance(study.problem, ImageProblem):
        return say_best(study)
    best, path = study.best, winner.bundle_path(study)
    bundle, sealed = winner.find_bundle(study), winner.measurements(study) == 0
    if bundle is None or (sealed and not _is_wanted(bundle, best.number, refit=args.refit)):
        print(f"exporting trial {best.number} to {path}", flush=True)
        bundle = winner.export_trial(study, best.number, path, refit=args.refit, say=_say)
    elif args.refit and not bundle.provenance["refit"]:
        print(f"{path} is not refitted: `{PROG} export {study.name} --refit` replaces it")
    bundle = winner.attach_recorded(study, bundle)
    if sealed and winner.unmeasurable(study) is None:
        print("measuring the test set, once", flush=True)
        winner.measure(study, bundle, again=False)
        bundle = Bundle.open(path)  # with the measurement in it
    showcase(study, bundle)
    _summary(study, bundle, args.storage)
    return 0


def _is_wanted(bundle: "Bundle", best: int, *, refit: bool) -> bool:
    """Whether a bundle that was exported before is the one to spend the one measurement on."""
    provenance = bundle.provenance
    return provenance["trial"] == best and (provenance["refit"] or not refit)


def _say(line: str) -> None:
    print(line, flush=True)  # training takes minutes, also where the output is a pipe


def _summary(study: "Study", bundle: "Bundle", storage: str) -> None:
    from fmnist_hpo.winner import measurements, recorded, unmeasurable
    from search.display import show_trial

    best, measured = study.best, recorded(study, bundle)
    number, count = bundle.provenance["trial"], measurements(study)
    times = "once" if count == 1 else f"{count} times"
    print(f"\nbest trial  {best.number}: {show_trial(best, study.params(best))}")
    print(f"validation  {_validation(study, bundle)}")
    if not count:
        print(f"test        not measured: {unmeasurable(study)}")
    elif measured is None:
        print(f"test        not measured of this bundle; another of the study was, {times}")
    else:
        how = f"measured {times}; trained on {bundle.provenance['trained_on']:,} images"
        print(f"test        {_with_interval(measured.evaluation.metrics)} ({how})")
    of = "" if number == best.number else f" (of trial {number})"
    print(f"bundle      {bundle.path}{of}")
    # not the address itself, which may hold a password
    where = "" if storage == cli.default_storage() else " --storage ..."
    print(f"next        {PROG} reproduce {study.name}{where}")
    print(f"            {PROG} predict {bundle.path} IMAGE.png")
    print(f"            {PROG} dashboard{where}")
    print(f"            {PROG} report {study.name}{where}")


def _validation(study: "Study", bundle: "Bundle") -> str:
    text = f"{100 * (study.best.value or 0.0):.2f} % accuracy"
    folds = bundle.metrics["folds"].get("fold_train_score")
    if not folds:
        return text
    train = sum(folds) / len(folds)
    return f"{text}, training {100 * train:.2f} % (means over {len(folds)} folds)"


def _with_interval(metrics: "Metrics") -> str:
    low, high = metrics.accuracy_interval
    return (
        f"{100 * metrics.accuracy:.2f} % accuracy, 95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}"
    )


def _reproduced(study: "Study", trial: "FrozenTrial") -> None:
    """Say where the exported model is a refit of the trial, which the verdict does not cover."""
    from fmnist_hpo.image_problem import ImageProblem
    from fmnist_hpo.winner import find_bundle
    from search.service import differences
    from search.tables import print_differences

    if not isinstance(study.problem, ImageProblem):
        return
    try:
        bundle = find_bundle(study)
    except InputError:  # damaged, as whoever uses it is told
        return
    if bundle is None:
        return
    made = bundle.provenance
    if made["trial"] != trial.number or not made["refit"]:
        return
    differs = {
        key: both
        for key, both in differences(made["environment"], study.problem.environment()).items()
        if key != "threads"  # those of the trial, for the verdict
    }
    print(
        f"not covered: {bundle.path} holds this configuration trained anew on all "
        f"{made['trained_on']:,} images{', in another environment' if differs else ''}; "
        f"`{PROG} export {study.name} --refit` does that again"
    )
    print_differences(differs)


def _export(args: argparse.Namespace) -> int:
    from fmnist_hpo.showcase import showcase
    from fmnist_hpo.winner import bundle_path, export_trial

    study = open_named(args, APPLICATION)
    out = args.out or bundle_path(study)
    bundle = export_trial(study, args.trial, out, refit=args.refit, say=_say)
    showcase(study, bundle)
    print(f"bundle of trial {bundle.provenance['trial']} of study {study.name!r}: {bundle.path}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.showcase import showcase
    from fmnist_hpo.winner import measure

    bundle = Bundle.open(args.bundle)
    args.study = bundle.provenance["study"]
    study = open_named(args, APPLICATION)
    measured = measure(study, bundle, again=args.again)
    showcase(study, Bundle.open(args.bundle))
    metrics = measured.evaluation.metrics
    print(f"{'class':<14}{'precision':>10}{'recall':>10}{'F1':>10}{'images':>10}")
    for one in metrics.per_class:
        print(
            f"{one.name:<14}{one.precision:>10.4f}{one.recall:>10.4f}{one.f1:>10.4f}"
            f"{one.support:>10,}"
        )
    print(f"test set: {_with_interval(metrics)}, {metrics.n:,} images")
    if measured.count > 1:
        print(f"this was measurement {measured.count} of the study's test set; the card says so")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from fmnist_hpo.comparison import compare
    from fmnist_hpo.comparison_table import lines, write_csv

    studies = []
    for name in dict.fromkeys(args.studies):
        args.study = name
        studies.append(open_named(args, APPLICATION))
    comparison = compare(studies)
    if args.json:
        print(comparison.to_json())
        return 0
    if args.csv is not None:
        write_csv(comparison, args.csv)
    for line in lines(comparison):
        print(line)
    return 0


def _report(args: argparse.Namespace) -> int:
    from fmnist_hpo.report.write import report_path, write_report

    studies = [
        open_named(argparse.Namespace(**vars(args), study=name), APPLICATION)
        for name in dict.fromkeys(args.studies)
    ]
    path = write_report(studies, args.out or report_path(studies))
    print(f"report: {path}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.images import read_images
    from fmnist_hpo.predict import predict

    bundle = Bundle.open(args.bundle)
    images = read_images(args.images, bundle.image_size)
    print(images.preprocessing)
    for name, prediction in zip(images.names, predict(bundle, images.pixels), strict=True):
        if not bundle.has_probabilities:
            others = list(prediction.probabilities)[1:4]
            print(f"{name}: {prediction.name} (rather than {', '.join(others)})")
            continue
        shares = [f"{label} {100 * p:.1f} %" for label, p in prediction.probabilities.items()]
        print(f"{name}: {shares[0]} ({', '.join(shares[1:4])})")
    return 0


def _data(args: argparse.Namespace) -> int:
    from fmnist_hpo import data

    _prepare(args)
    directory = data.look() if args.action == "verify" else data.find()
    if directory is None:
        raise InputError(
            "Fashion-MNIST is not on this machine; fetch it with `data fetch`, or name its "
            "directory with --data-dir"
        )
    sums = data.verify(directory)
    for name, digest in sums.items():
        print(f"ok  {digest}  {name}")
    print(f"Fashion-MNIST is complete in {directory}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from fmnist_hpo.doctor import examine

    _prepare(args)
    worst = 0
    for finding in examine(args.storage):
        mark = "ok" if finding.ok else "--"
        print(f"{mark}  {finding.what:<10} {finding.found}", flush=True)
        if finding.remedy:
            print(f"    {'':<10} {finding.remedy}")
        worst = max(worst, int(not finding.ok and finding.needed))
    return worst


def _studies() -> Path:
    """The study files: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "studies"
    return installed if installed.exists() else package.parent / "studies"


APPLICATION = Application(
    prog=PROG,
    studies=_studies(),
    prepare=_prepare,
    describe=_describe,
    gpus=_gpus,
    finish=_finish,
    reproduced=_reproduced,
    add_options=_add_options,
)

if __name__ == "__main__":
    sys.exit(main())
