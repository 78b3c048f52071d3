"""Writes trials as folders: DIR/STUDY/trial-NUMBER.

A folder is written under another name and then renamed, so one that is there is whole.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from search.errors import SearchError
from search.text import describe_error, install_extra
from search.track.records import Bundle, Origin, TrackedTrial, Unwritten

__all__ = ["FolderSink"]

_OWNER = "study.json"  # says of which study a folder is
_TRIAL = re.compile(r"trial-([0-9]+)")
_DRAFT = ".draft-"  # how the name of a folder begins that is being written
_DRAFT_SECONDS = 3600.0  # to write one trial takes much less


class FolderSink(ABC):
    """See `records.Sink`; a subclass says what is in a trial's folder.

    Args:
        folder: holds a folder for each study.

    Raises:
        SearchError: the tracker's package is not installed.
        Unwritten: the folder is below a home directory that is not there.
    """

    kind: ClassVar[str]  # of the tracker, and its extra
    errors: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, TypeError)

    def __init__(self, folder: str, origin: Origin) -> None:
        try:
            self.load()
        except ImportError as error:
            raise SearchError(
                f"the tracker {self.kind} needs the extra {self.kind}; {install_extra(self.kind)}"
            ) from error
        try:
            self.folder = Path(folder).expanduser() / origin.name
        except RuntimeError as error:
            raise Unwritten(f"{folder} cannot be written: it names no home directory") from error
        self.origin = origin

    @abstractmethod
    def load(self) -> None:
        """Import the tracker's package; else `ImportError`."""

    @abstractmethod
    def fill(self, folder: Path, trial: TrackedTrial) -> None:
        """Write a trial into an empty folder; else one of `errors`."""

    def known(self) -> set[int]:
        """See `records.Sink.known`."""
        with self._one_line():
            self.folder.mkdir(parents=True, exist_ok=True)
            owner = self.folder / _OWNER
            try:
                uid = dict(json.loads(owner.read_text(encoding="utf-8")))["uid"]
            except FileNotFoundError:
                uid = self._own(owner)
            if uid != self.origin.uid:
                raise Unwritten(
                    f"{self.folder} holds another study named {self.origin.name!r}; move it "
                    "away, or name another folder"
                )
            self._sweep()
            found = (_TRIAL.fullmatch(each.name) for each in self.folder.iterdir())
            return {int(one[1]) for one in found if one}

    def _own(self, owner: Path) -> str:
        """Say of which study the folder is; another process may do so at the same time."""
        content = {"study": self.origin.name, "uid": self.origin.uid}
        with tempfile.NamedTemporaryFile(
            "w", dir=self.folder, prefix=f".{_OWNER}-", delete=False, encoding="utf-8"
        ) as draft:
            json.dump(content, draft)
        Path(draft.name).chmod(0o644)
        Path(draft.name).replace(owner)
        return self.origin.uid

    def write(self, trial: TrackedTrial) -> None:
        """See `records.Sink.write`."""
        with self._one_line():
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self.folder))
            try:
                self.fill(draft, trial)
                draft.chmod(0o755)
                self._keep(draft, self.folder / f"trial-{trial.number:05}")
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise

    def _keep(self, draft: Path, place: Path) -> None:
        try:
            os.replace(draft, place)  # noqa: PTH105
        except OSError:
            if not place.is_dir():
                raise
            shutil.rmtree(draft, ignore_errors=True)  # another process was faster

    def _sweep(self) -> None:
        """Remove the drafts of processes that were killed."""
        for draft in self.folder.glob(f"{_DRAFT}*"):
            with contextlib.suppress(FileNotFoundError):  # its process goes on, and has renamed it
                if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                    shutil.rmtree(draft, ignore_errors=True)

    def attach(self, bundle: Bundle) -> None:  # noqa: B027
        """Nothing is done: a bundle lies in a folder of its own."""

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except self.errors as error:
            raise Unwritten(f"{self.folder} cannot be written: {describe_error(error)}") from error
