"""The generic verbs of the command line: `run`, `plan`, `status` and so on.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from search.cli import commands as do
from search.cli.application import DEFAULT_STORAGE, PASSWORD_VARIABLE, Application
from search.errors import SearchError
from search.signals import once
from search.worker.contract import STORAGE_VARIABLE

__all__ = [
    "Verbs",
    "add_storage",
    "add_verb",
    "add_verbs",
    "default_storage",
    "main",
    "parser",
    "run_main",
]

Verbs = Any  # argparse has no public name for the object that add_subparsers returns


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


class _Version(argparse.Action):
    """Prints the version; it is looked up only when asked for, which takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib import metadata

        print(f"fmnist-hpo {metadata.version('fmnist-hpo')}")
        parser.exit()


def parser(application: Application, description: str) -> tuple[argparse.ArgumentParser, Verbs]:
    """An empty command line, and where verbs are added."""
    top = _Parser(
        prog=application.prog,
        description=description,
        epilog=f"`{application.prog} VERB --help` shows what a verb takes, with an example.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    return top, verbs


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    """Add a verb with a sentence of help and an example."""
    added: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(run=run)
    return added


def add_verbs(verbs: Verbs, app: Application) -> None:
    """Add the generic verbs."""
    prog = app.prog
    run = add_verb(
        verbs,
        "run",
        partial(do.run_study, app),
        "run a study to its end, or go on with it",
        f"{prog} run studies/quick.toml --workers 2",
    )
    run.add_argument("study", metavar="STUDY", help="a study file, or the name of a study")
    run.add_argument("--workers", type=_positive, metavar="N", help=_WORKERS_HELP)
    run.add_argument(
        "--threads", type=_positive, metavar="N", default=1, help="of each worker (default: 1)"
    )
    run.add_argument("--checkpoints", metavar="PLACE", help=_CHECKPOINTS_HELP)

    create = add_verb(
        verbs,
        "create",
        partial(do.create_study, app),
        "create a study without running it, for workers that are started elsewhere",
        f"{prog} create cnn --storage postgresql://user@host/studies",
    )
    create.add_argument(
        "study", metavar="STUDY", help="a study file, or the name of one that ships"
    )
    create.add_argument("--checkpoints", metavar="PLACE", help=_CHECKPOINTS_HELP)

    plan = add_verb(
        verbs,
        "plan",
        partial(do.show_plan, app),
        "say what a study will take, before anything runs: space, times, memory",
        f"{prog} plan studies/quick.toml --workers 2",
    )
    plan.add_argument("study", metavar="STUDY", help="a study file, or the name of one that ships")
    plan.add_argument("--workers", type=_positive, metavar="N", help=_WORKERS_HELP)
    plan.add_argument("--json", action="store_true", help="one JSON object")
    app.add_options("plan", plan)

    worker = add_verb(
        verbs,
        "worker",
        partial(do.run_worker, app),
        "join a study with one worker, on any machine",
        f"{prog} worker cnn --storage postgresql://user@host/studies",
    )
    worker.add_argument("study", metavar="STUDY", help="the name of a study in the storage")
    worker.add_argument("--checkpoints", metavar="PLACE", help=_CHECKPOINTS_HELP)

    status = add_verb(
        verbs,
        "status",
        partial(do.show_status, app),
        "show how a study stands and who works on what; without a study, list them all",
        f"{prog} status quick --watch",
    )
    status.add_argument(
        "study",
        metavar="STUDY",
        nargs="?",
        help=f"{_STORED_HELP}; without one, every study of the storage in a line",
    )
    status.add_argument("--watch", action="store_true", help="redraw until the study has ended")

    trials = add_verb(
        verbs,
        "trials",
        partial(do.list_trials, app),
        "list a study's trials",
        f"{prog} trials quick --csv",
    )
    trials.add_argument("study", metavar="STUDY", help=_STORED_HELP)
    trials.add_argument("--csv", action="store_true", help="comma-separated values, every column")
    trials.add_argument(
        "--format",
        choices=("trials", "cv_results"),
        default="trials",
        help="of --csv: cv_results for scikit-learn's columns of a cross-validated study",
    )

    best = add_verb(
        verbs,
        "best",
        partial(do.show_best, app),
        "show the best trial",
        f"{prog} best quick --json",
    )
    best.add_argument("study", metavar="STUDY", help=_STORED_HELP)
    best.add_argument("--json", action="store_true", help="one JSON object")

    reproduce = add_verb(
        verbs,
        "reproduce",
        partial(do.reproduce_trial, app),
        "train a trial again and say whether the same numbers came out (exit code 0 identical, "
        "3 different, 2 impossible)",
        f"{prog} reproduce quick --trial 3",
    )
    reproduce.add_argument("study", metavar="STUDY", help=_STORED_HELP)
    reproduce.add_argument("--trial", type=int, metavar="N", help="its number (default: the best)")

    copy = add_verb(
        verbs,
        "copy-study",
        do.copy_to,
        "copy a study with its ledger to another storage",
        f"{prog} copy-study cnn --from sqlite:///runs/studies.db --to postgresql://user@host/studies",
    )
    copy.add_argument("study", metavar="STUDY", help="the name of a study in the first storage")
    copy.add_argument(
        "--from",
        dest="source",
        metavar="URL",
        default=default_storage(),
        help=f"the storage that has it (default: ${STORAGE_VARIABLE}, or {DEFAULT_STORAGE})",
    )
    copy.add_argument(
        "--to", dest="target", metavar="URL", required=True, help="a storage without such a study"
    )

    dashboard = add_verb(
        verbs,
        "dashboard",
        do.show_dashboard,
        "browse the studies of a storage in optuna-dashboard, read-only unless asked otherwise",
        f"{prog} dashboard --port 8080",
    )
    dashboard.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    dashboard.add_argument(
        "--port", type=int, metavar="N", default=8080, help="default: 8080; 0 takes a free one"
    )
    dashboard.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help=f"holds the password (or set ${PASSWORD_VARIABLE}); needed for any other host",
    )
    dashboard.add_argument(
        "--allow-writes", action="store_true", help="let visitors change studies"
    )

    for name, verb in (
        ("run", run),
        ("create", create),
        ("dashboard", dashboard),
        ("worker", worker),
        ("status", status),
        ("trials", trials),
        ("best", best),
        ("reproduce", reproduce),
    ):
        add_storage(verb)
        app.add_options(name, verb)


_WORKERS_HELP = "processes (default: as the cores allow)"
_STORED_HELP = "the name of a study in the storage, or its file"
_CHECKPOINTS_HELP = "a directory or s3://bucket/prefix (default: runs/STUDY/checkpoints)"


def default_storage() -> str:
    """The storage where none is named."""
    return os.environ.get(STORAGE_VARIABLE, DEFAULT_STORAGE)


def add_storage(verb: argparse.ArgumentParser) -> None:
    """Add `--storage`."""
    verb.add_argument(
        "--storage",
        metavar="URL",
        default=default_storage(),
        help=f"sqlite:///FILE, postgresql://..., or embedded (default: ${STORAGE_VARIABLE}, "
        f"or {DEFAULT_STORAGE})",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m search`: the generic verbs alone."""
    app = Application()
    top, verbs = parser(app, "Run hyperparameter searches.")
    add_verbs(verbs, app)
    return run_main(top, argv)


def run_main(
    top: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Parse and run; a user's error becomes one line and exit code 2.

    Args:
        errors: further exceptions that are a user's errors.
    """

    args = top.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal or pipe may not take every character
        sys.stdout.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, once(_interrupt))
    user_errors: tuple[type[Exception], ...] = (SearchError, *errors)
    try:
        return int(args.run(args))
    except user_errors as error:
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone, as in `trials | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(number: int) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return number
