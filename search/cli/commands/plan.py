"""`plan`: estimate a study before it runs."""

import argparse

import optuna

from search.cli.application import Application
from search.cli.arguments import SHIPPED_HELP, WORKERS_HELP, default_storage, positive
from search.cli.find_study import add_overrides, find_spec, no_file, overrides_of
from search.cli.json_output import json_alone, print_json
from search.cli.plan_text import print_plan
from search.plan.plan import make_plan
from search.study import validate
from search.supervisor.launchers.local import default_workers

EXAMPLE = "{prog} plan studies/quick.toml --workers 2"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help=SHIPPED_HELP)
    parser.add_argument("--workers", type=positive, metavar="N", help=WORKERS_HELP)
    add_overrides(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    app.add_options("plan", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    spec = find_spec(args.study, app.studies, overrides_of(args))
    if spec is None:
        raise no_file(args.study, app.studies, default_storage())
    gpus = app.gpus()
    workers = args.workers or default_workers(1, len(gpus))
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces studies in memory too
    with json_alone(args):
        plan = make_plan(spec, validate(spec), workers=workers, threads=1, gpus=gpus)
    if args.json:
        print_json(plan.to_json())
    else:
        print_plan(plan)
    return 0
