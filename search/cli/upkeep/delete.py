"""`delete`: delete a study with its trials, checkpoints and artifacts."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from optuna.trial import FrozenTrial

from search import attributes
from search.cli.application import Application
from search.cli.arguments import add_storage
from search.cli.find_study import open_stored
from search.errors import SearchError, StorageError
from search.ledger import Ledger
from search.storage import Storage
from search.storage.checkpoint import CheckpointStore
from search.study.confirmation.find import confirmations
from search.study.delete import delete_study, refuse_while_alive
from search.text import counted

EXAMPLE = "{prog} delete cnn-short"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("study", metavar="STUDY", help="the name of a study in the storage")
    parser.add_argument("--yes", action="store_true", help="do not ask for the name again")
    add_storage(parser)
    app.add_options("delete", parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    name = args.study
    storage = open_stored(args.storage, name)
    ledger = Ledger.open(storage, name)
    confirming = [one.name for one in confirmations(storage, ledger.uid)]
    ledgers = {one: Ledger.open(storage, one) for one in confirming} | {name: ledger}
    trials = {
        one: storage.optuna.get_all_trials(of.study_id, deepcopy=False)
        for one, of in ledgers.items()
    }
    for one, of in ledgers.items():
        refuse_while_alive(of, one)
    if not args.yes:
        also = f", and what confirms it ({', '.join(confirming)})" if confirming else ""
        _confirm(name, f"{storage.url}, {counted(len(trials[name]), 'trial')}{also}")
    for one, of in ledgers.items():  # the study last: one without its confirmation is whole
        _delete(storage, of, one, trials[one])
    return 0


def _delete(storage: Storage, ledger: Ledger, name: str, trials: Sequence[FrozenTrial]) -> None:
    """Delete one study, and say what was deleted with it."""
    from search.dashboard.artifact_files import artifact_files

    place = ledger.attrs.get(attributes.CHECKPOINTS)  # a study of StudySearchCV may have none
    system_attrs = storage.optuna.get_study_system_attrs(ledger.study_id)
    files = artifact_files(system_attrs, trials)
    delete_study(ledger, name)
    checkpoints = 0 if place is None else CheckpointStore(place, ledger.uid).delete_all()
    _unlink(files)
    print(
        f"study {name!r} was deleted: {counted(len(trials), 'trial')}, "
        f"{counted(checkpoints, 'checkpoint')}, {counted(len(files), 'artifact')}"
    )
    folder = Path("runs") / name
    kept = (
        sorted(path.name for path in folder.iterdir() if path.name != "checkpoints")
        if folder.is_dir()
        else []
    )
    if kept:
        print(f"{folder} keeps {', '.join(kept)}")


def _confirm(name: str, what: str) -> None:
    if not sys.stdin.isatty():
        raise SearchError(
            f"deleting study {name!r} cannot be undone and needs a confirmation, got no terminal "
            "to ask on; add --yes"
        )
    typed = ""
    with suppress(EOFError):
        typed = input(f"study {name!r} in {what}: type its name to delete it for good: ")
    if typed.strip() != name:
        raise SearchError(f"the name was not {name!r}, got {typed.strip()!r}; nothing was deleted")


def _unlink(files: list[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"the artifact {file} could not be deleted ({error.strerror}); delete it by hand"
            ) from error
