"""`fmnist-hpo`: the generic verbs, and those that know images, networks and bundles.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fmnist_hpo.cli import commands as do
from fmnist_hpo.cli.application import APPLICATION, PROG, REFIT_HELP, add_data_dir
from fmnist_hpo.errors import InputError
from search.cli import app as cli

__all__ = ["main"]


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
        do.handle_data,
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
        do.show_findings,
        "say what is installed here, what is missing, and what to do about it",
        f"{PROG} doctor --storage postgresql://user@host/studies",
    )
    cli.add_storage(doctor)
    for verb in (data, doctor):
        add_data_dir(verb)
    return cli.run_main(top, argv, errors=(InputError,))


def _add_bundle_verbs(verbs: cli.Verbs) -> None:
    export = cli.add_verb(
        verbs,
        "export",
        do.export_study,
        "write the best trial's bundle: weights, ONNX, card, figures",
        f"{PROG} export quick --refit",
    )
    export.add_argument("study", metavar="STUDY", help=_STORED_HELP)
    export.add_argument("--trial", type=int, metavar="N", help="its number (default: the best)")
    export.add_argument("--out", type=Path, metavar="DIR", help="default: runs/STUDY/bundle")
    export.add_argument("--refit", action="store_true", help=REFIT_HELP)
    export.add_argument("--checkpoints", metavar="PLACE", help="where they lie (default: as run)")
    evaluate = cli.add_verb(
        verbs,
        "evaluate",
        do.evaluate_bundle,
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
        do.predict_images,
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
        do.compare_studies,
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
        do.report_on,
        "write a page on studies that needs nothing else, and its figures as PNG and SVG",
        f"{PROG} report ann cnn --out report",
    )
    report.add_argument("studies", nargs="+", metavar="STUDY", help=_STORED_HELP)
    report.add_argument(
        "--out", type=Path, metavar="DIR", help="default: runs/STUDY/report, of several runs/report"
    )
    for verb in (export, evaluate, compare, report):
        cli.add_storage(verb)
        add_data_dir(verb)


_STORED_HELP = "the name of a study in the storage, or its file"
_BUNDLE_HELP = "a folder that run or export wrote"

if __name__ == "__main__":
    sys.exit(main())
