"""Finds the study or the study file that a user names."""

import argparse
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from search.errors import SearchError, SpecError, nearest
from search.spec import StudySpec, read_spec
from search.spec.overrides import Override, read_override
from search.storage import (
    READING_SECONDS,
    Retry,
    Storage,
    is_missing_file,
    open_storage,
    shown,
)
from search.study import Study, open_study, study_names

__all__ = [
    "add_overrides",
    "find_spec",
    "must_exist",
    "no_file",
    "open_named",
    "open_stored",
    "overrides_of",
    "shipped",
    "unknown_study",
]


def open_stored(url: str, study: str | None = None) -> Storage:
    """Open a storage to look at what it holds; an absent SQLite file is not created.

    A call waits for a database that goes away for `READING_SECONDS`, and says so.

    Args:
        study: the study that is looked for, named in the message.

    Raises:
        SearchError: there is no such storage, or it cannot be opened.
    """
    must_exist(url, study)
    return open_storage(url, retry=Retry(limit_seconds=READING_SECONDS))


def must_exist(url: str, study: str | None = None) -> None:
    """Raise `SearchError` if a URL names an SQLite file that does not exist."""
    if is_missing_file(url):
        missing = "" if study is None else f", so no study {study!r} in it"
        raise SearchError(
            f"there is no storage {shown(url)}{missing}; `run --help` shows how to start a "
            "study, and --storage names another storage"
        )


def open_named(name: str, *, storage: Storage, checkpoints: str | None = None) -> Study:
    """Open the study that the user named by its name or by its study file.

    Args:
        checkpoints: where this process finds its checkpoints, if not where the study says.

    Raises:
        SearchError: there is no such file, or no such study in the storage.
    """
    if name.endswith(".toml"):
        name = read_spec(Path(name)).name
    return open_study(name, storage, checkpoints=checkpoints)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add `--set` and `--name`."""
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        type=_override,
        default=[],
        help="give a key of the study file another value, such as budget.trials=8; repeatable",
    )
    parser.add_argument("--name", metavar="NAME", help="give the study another name")


def _override(text: str) -> Override:
    try:
        return read_override(text)
    except SpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def overrides_of(args: argparse.Namespace) -> list[Override]:
    """What `--set` and `--name` say."""
    name = [] if args.name is None else [Override(path=("name",), value=args.name)]
    return [*args.set, *name]


def find_spec(
    name: str, folder: Path | None, overrides: Sequence[Override] = ()
) -> StudySpec | None:
    """The study file that a user means: a path, or the name of one that ships; None if neither.

    Args:
        folder: of the study files that ship.
        overrides: keys that get other values.

    Raises:
        SpecError: the path does not exist, or the file is wrong.
    """
    path, known = Path(name), shipped(folder)
    # isfile: a name of any length is a file or none
    if name.endswith(".toml") or (os.sep in name and os.path.isfile(name)):  # noqa: PTH113
        try:
            return read_spec(path, overrides)
        except SpecError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            hint = _nearest_file(path, known)
            raise SpecError(
                f"cannot read the study file {name}: it does not exist; {hint}"
            ) from error
    found = known.get(path.name)
    if found is None or not found.with_suffix("").match(name):  # classical/svm is svm
        return None
    return read_spec(found, overrides)


def unknown_study(name: str, folder: Path | None, stored: Sequence[str] = ()) -> SpecError:
    """The error for a name that is neither a study file nor a stored study."""
    hint = _shipped_hint(name, folder, stored)
    return SpecError(f"no study file and no study is called {name!r}; {hint}")


def no_file(name: str, folder: Path | None, url: str) -> SpecError:
    """The error for a name that is no study file's, where one is needed.

    Args:
        url: the storage in which a study of that name may be.
    """
    stored: list[str] = []
    with suppress(SearchError):  # there is no such storage, or it does not answer
        if not is_missing_file(url):
            storage = open_stored(url)
            stored = study_names(storage)
            storage.close()
    if name in stored:
        return SpecError(
            f"a study file is needed, got {name!r}, the name of a study in {shown(url)}; name the "
            f"file that it was created from, or see how it stands with `status {name}`"
        )
    return SpecError(f"no study file is called {name!r}; {_shipped_hint(name, folder)}")


def _shipped_hint(name: str, folder: Path | None, stored: Sequence[str] = ()) -> str:
    """The study whose name is nearest, or which ones there are."""
    names = sorted(shipped(folder))
    near = nearest(name, [*names, *stored])
    if near:
        return f"did you mean {near!r}?"
    held = f"; in the storage: {', '.join(sorted(stored))}" if stored else ""
    return f"shipped: {', '.join(names) or 'none'}{held}"


def shipped(folder: Path | None) -> dict[str, Path]:
    """The study files that ship, by name, those in subfolders included."""
    return {} if folder is None else {file.stem: file for file in folder.rglob("*.toml")}


def _nearest_file(path: Path, known: Collection[str]) -> str:
    """What to do about a study file that does not exist."""
    if path.stem in known:
        return f"one of that name ships: use {path.stem!r}"
    beside = [file.stem for file in path.parent.glob("*.toml") if file.exists()]
    near = nearest(path.stem, [*beside, *known])
    if near is not None:
        named = path.with_stem(near) if near in beside else f"{near!r}, which ships"
        return f"did you mean {named}?"
    return f"check the path, or use one that ships: {', '.join(sorted(known)) or 'none'}"
