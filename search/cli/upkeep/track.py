"""`track`: write a study's trials to MLflow, TensorBoard or Weights & Biases."""

import argparse
import sys

from search.cli.application import Application
from search.cli.arguments import STORED_HELP, add_storage
from search.cli.find_study import open_named, open_stored
from search.cli.json_output import print_json
from search.errors import SearchError
from search.spec.outside import read_tracker
from search.text import counted
from search.track.records import Bundle, Origin, Unwritten, tracked
from search.track.track import Outcome, bring_up_to_date, open_sink

EXAMPLE = "{prog} track quick --to mlflow:http://127.0.0.1:5000 --to tensorboard:runs/board"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument(
        "--to",
        metavar="TRACKER",
        action="append",
        help="mlflow:URI, tensorboard:DIR or wandb:DIR; may be repeated (default: what the study "
        "file says)",
    )
    parser.add_argument("--json", action="store_true", help="a JSON list, an object per tracker")
    add_storage(parser)
    app.add_options("track", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    trackers = [read_tracker(text, "--to") for text in args.to or ()] or study.spec.track
    if not trackers:
        raise SearchError(
            f"study {study.name!r} names no tracker, got no --to; add --to mlflow:URI, "
            "tensorboard:DIR or wandb:DIR"
        )
    trials = [tracked(study, trial) for trial in study.trials if trial.state.is_finished()]
    exported = app.exported(study)
    bundles = [] if exported is None else [Bundle(trial=exported[0], path=exported[1])]
    origin = Origin(name=study.name, uid=study.uid, spec=study.spec.hash)
    found: list[Outcome] = []
    for tracker in trackers:
        try:
            outcome = bring_up_to_date(open_sink(tracker, origin), trials, bundles)
        except Unwritten as error:
            missing = tuple(trial.number for trial in trials)
            outcome = Outcome(written=(), missing=missing, error=str(error))
        found.append(outcome)
        if not args.json:
            failed = outcome.error is not None
            line = f"{tracker}: {_words(outcome, len(trials))}"
            print(f"error: {line}" if failed else line, file=sys.stderr if failed else None)
    if args.json:
        print_json(
            [
                {"tracker": str(tracker), **vars(outcome)}
                for tracker, outcome in zip(trackers, found, strict=True)
            ]
        )
    return 2 if any(outcome.error for outcome in found) else 0


def _words(outcome: Outcome, total: int) -> str:
    done = f"{counted(len(outcome.written), 'trial')} written"
    if outcome.error is None:
        return f"{done}, all {total} that have ended are there"
    return f"{done}, {len(outcome.missing)} missing: {outcome.error}; the same command goes on"
