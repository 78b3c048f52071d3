"""`amend`: change what a study searches, by a changed study file."""

import argparse
import sys
from contextlib import suppress

from search.cli.application import Application
from search.cli.arguments import SHIPPED_HELP, STORED_HELP, add_storage
from search.cli.find_study import find_spec, no_file, open_named, open_stored
from search.cli.hints import storage_option
from search.cli.json_output import json_alone, print_json
from search.cli.upkeep.remarks import remark_on
from search.errors import SearchError
from search.spec.amend import lines_of
from search.study import Study
from search.supervisor.run import annotate
from search.text import counted

EXAMPLE = "{prog} amend cnn studies/cnn-wider.toml"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=STORED_HELP)
    parser.add_argument("file", metavar="FILE", help=SHIPPED_HELP)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--json", action="store_true", help="the amendment as one JSON object; needs --yes"
    )
    add_storage(parser)
    app.add_options("amend", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    spec = find_spec(args.file, app.studies)
    if spec is None:
        raise no_file(args.file, app.studies, args.storage)
    study = open_named(args.study, storage=open_stored(args.storage, args.study))
    with json_alone(args):
        draft, seen = study.preview(spec), len(study.amendments)
    if not args.json:
        print(f"what the file changes of study {study.name!r}:")
        for line in lines_of(draft.changes):
            print(f"  {line}")
    if not args.yes:
        _confirm(study.name, asks=not args.json)
    with json_alone(args):
        made = study.amend(spec, seen=seen)
        annotate(study)
    if args.json:
        print_json(made.to_json())
        return 0
    print(f"study {study.name!r} was amended: it is amendment {made.number}; {_seen(study)}")
    remark = None
    if draft.searches:
        remark = remark_on(study, app, args.storage)
    elif study.spec.confirm is not None and not made.only_refit:
        run = f"{app.prog} run {study.name}{storage_option(args.storage)}"
        remark = f"once its search is over, `{run}` trains the best trials again"
    if remark is not None:
        print(remark)
    return 0


def _confirm(name: str, *, asks: bool) -> None:
    if not asks or not sys.stdin.isatty():
        raise SearchError(
            f"study {name!r} is amended after a confirmation, got nobody to ask; add --yes"
        )
    typed = ""
    with suppress(EOFError):
        typed = input("amend it so? [y/N] ")
    if typed.strip().lower() not in ("y", "yes"):
        raise SearchError(f"amending needs a y, got {typed.strip()!r}; nothing was changed")


def _seen(study: Study) -> str:
    """How many of the trials the sampler goes on seeing."""
    trials, see = study.trials, study.specs.since(len(study.amendments))
    if see is None or not trials:
        return f"its {counted(len(trials), 'trial')} stay as they are"
    inside = sum(see(trial) is not None for trial in trials)
    return (
        f"of its {counted(len(trials), 'trial')} {inside} lie in the space since then, and the "
        "sampler sees these; all stay on record"
    )
