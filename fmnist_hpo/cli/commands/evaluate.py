"""`evaluate`: measure a bundle on the test set."""

import argparse

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.cli.arguments import BUNDLE_HELP, add_data_dir
from fmnist_hpo.cli.texts import with_interval
from fmnist_hpo.results.measurement import measure
from fmnist_hpo.results.showcase import showcase
from search.cli.application import Application
from search.cli.arguments import add_storage, path
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import json_alone, print_json

EXAMPLE = "{prog} evaluate runs/quick/bundle"


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("bundle", type=path, metavar="BUNDLE", help=BUNDLE_HELP)
    parser.add_argument(
        "--again", action="store_true", help="measure even if the study was measured before"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_storage(parser)
    add_data_dir(parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    bundle = Bundle.open(args.bundle)
    name = bundle.provenance.study
    study = open_named(name, storage=open_stored(args.storage, name))
    with json_alone(args):
        measured = measure(study, bundle, again=args.again)
        showcase(study, Bundle.open(args.bundle))
    metrics = measured.evaluation.metrics
    if args.json:
        low, high = metrics.accuracy_interval
        print_json(
            {
                "study": name,
                "trial": bundle.provenance.trial,
                "accuracy": metrics.accuracy,
                "interval": [low, high],
                "images": metrics.n,
                "measurements": measured.count,
                "remark": measured.remark or None,
                "classes": [
                    {
                        "class": one.name,
                        "precision": one.precision,
                        "recall": one.recall,
                        "f1": one.f1,
                        "images": one.support,
                    }
                    for one in metrics.per_class
                ],
                "confusion": metrics.confusion,
            }
        )
        return 0
    print(f"{'class':<14}{'precision':>10}{'recall':>10}{'F1':>10}{'images':>10}")
    for one in metrics.per_class:
        print(
            f"{one.name:<14}{one.precision:>10.4f}{one.recall:>10.4f}{one.f1:>10.4f}"
            f"{one.support:>10,}"
        )
    print(f"test set: {with_interval(metrics)}, {metrics.n:,} images")
    if measured.count > 1:
        print(f"this was measurement {measured.count} of the study's test set; the card says so")
    if measured.remark:
        print(measured.remark)
    return 0
