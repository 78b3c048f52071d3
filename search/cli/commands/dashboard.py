"""`dashboard`: browse the studies of a storage in optuna-dashboard."""

import argparse
import os
from pathlib import Path

from search.cli.application import Application
from search.cli.arguments import add_storage, natural, path
from search.cli.find_study import must_exist
from search.dashboard import Artifacts, serve
from search.errors import SearchError
from search.storage import open_storage
from search.study.delete import Deletion

EXAMPLE = "{prog} dashboard --port 8080"
PASSWORD_VARIABLE = "FMNIST_HPO_PASSWORD"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument(
        "--port", type=natural, metavar="N", default=8080, help="default: 8080; 0 takes a free one"
    )
    parser.add_argument(
        "--password-file",
        type=path,
        metavar="FILE",
        help=f"holds the password (or set ${PASSWORD_VARIABLE}); needed for any other host",
    )
    parser.add_argument(
        "--allow-writes",
        action="store_true",
        help="let visitors write notes and artifacts, and delete studies",
    )
    add_storage(parser)
    app.add_options("dashboard", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    password = os.environ.get(PASSWORD_VARIABLE)
    if args.password_file is not None:
        password = _read_password(args.password_file)
    must_exist(args.storage)
    opened = open_storage(args.storage)
    storage = opened.optuna
    serve(
        storage,
        host=args.host,
        port=args.port,
        password=password,
        allow_writes=args.allow_writes,
        delete=lambda name: Deletion(opened, name).carry_out(),
        artifact_store=Artifacts(storage),
    )
    return 0


def _read_password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise SearchError(
            f"cannot read the password file {file}: {reason}; name a text file with the password "
            "in it"
        ) from error
