"""`create`: create a study without running it."""

import argparse

from search.cli.application import Application
from search.cli.arguments import CHECKPOINTS_HELP, SHIPPED_HELP, add_storage, place_here
from search.cli.find_study import add_overrides, find_spec, no_file, overrides_of
from search.cli.hints import storage_option, storage_remark
from search.study import create_study_at
from search.text import counted

EXAMPLE = "{prog} create cnn --storage postgresql://user@host/studies"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=SHIPPED_HELP)
    add_overrides(parser)
    parser.add_argument("--checkpoints", type=place_here, metavar="PLACE", help=CHECKPOINTS_HELP)
    add_storage(parser)
    app.add_options("create", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    spec = find_spec(args.study, app.studies, overrides_of(args))
    if spec is None:
        raise no_file(args.study, app.studies, args.storage)
    study = create_study_at(spec, args.storage, checkpoints=args.checkpoints)
    print(
        f"study {spec.name!r} is in {study.storage.url}, {counted(spec.trials, 'trial')}; start "
        f"workers with: {app.prog} worker {spec.name}{storage_option(args.storage)}"
    )
    if (remark := storage_remark(args.storage)) is not None:
        print(remark)
    return 0
