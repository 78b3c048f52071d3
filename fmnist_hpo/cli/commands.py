"""What each verb on data, bundles and reports does; returns its exit code.

Nothing heavy is imported at the top, so that `--help` answers at once.
"""

import argparse

from fmnist_hpo.cli.application import APPLICATION, prepare, say, with_interval
from fmnist_hpo.errors import InputError
from search.cli.commands import open_named


def export_study(args: argparse.Namespace) -> int:
    from fmnist_hpo.results.showcase import showcase
    from fmnist_hpo.results.winner import bundle_path, export_trial

    study = open_named(args, APPLICATION)
    out = args.out or bundle_path(study)
    bundle = export_trial(study, args.trial, out, refit=args.refit, say=say)
    showcase(study, bundle)
    print(f"bundle of trial {bundle.provenance['trial']} of study {study.name!r}: {bundle.path}")
    return 0


def evaluate_bundle(args: argparse.Namespace) -> int:
    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.results.showcase import showcase
    from fmnist_hpo.results.winner import measure

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
    print(f"test set: {with_interval(metrics)}, {metrics.n:,} images")
    if measured.count > 1:
        print(f"this was measurement {measured.count} of the study's test set; the card says so")
    return 0


def compare_studies(args: argparse.Namespace) -> int:
    from fmnist_hpo.results.comparison import compare
    from fmnist_hpo.results.comparison_table import lines, write_csv

    if args.csv is not None and not args.csv.parent.is_dir():  # before a minute of measuring
        raise InputError(
            f"cannot write {args.csv}: {args.csv.parent} is no folder; make it or name another"
        )
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


def report_on(args: argparse.Namespace) -> int:
    from fmnist_hpo.report.write import report_path, write_report

    studies = [
        open_named(argparse.Namespace(**vars(args), study=name), APPLICATION)
        for name in dict.fromkeys(args.studies)
    ]
    path = write_report(studies, args.out or report_path(studies))
    print(f"report: {path}")
    return 0


def predict_images(args: argparse.Namespace) -> int:
    from fmnist_hpo.bundle import Bundle
    from fmnist_hpo.bundle.predict import predict
    from fmnist_hpo.data.images import read_images

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


def handle_data(args: argparse.Namespace) -> int:
    from fmnist_hpo import data

    prepare(args)
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


def show_findings(args: argparse.Namespace) -> int:
    from fmnist_hpo.cli.doctor import examine

    prepare(args)
    worst = 0
    for finding in examine(args.storage):
        mark = "ok" if finding.ok else "--"
        print(f"{mark}  {finding.what:<10} {finding.found}", flush=True)
        if finding.remedy:
            print(f"    {'':<10} {finding.remedy}")
        worst = max(worst, int(not finding.ok and finding.needed))
    return worst
