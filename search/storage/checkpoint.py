"""Checkpoints of trials: whole or absent, and never another's.

Each attempt at a lineage writes a file of its own, so an attempt that was declared dead and comes
back replaces nothing of its successor's. A file begins with a header that says whose it is and a
SHA-256 over everything that follows, so neither bytes that a crash, a full disk or a half-finished
upload left behind nor a file of another study is taken for a checkpoint.
"""

import copy
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.address import redact
from search.errors import StorageError
from search.storage.files import Files, open_files, place_of

__all__ = ["CheckpointStore"]

log = logging.getLogger(__name__)

# A file: _MAGIC, SHA-256 of all that follows, length of the header, header (JSON), data.
_MAGIC = b"checkpoint 2\n"
_OLDER_MAGIC = b"checkpoint 1\n"  # of a version that did not say whose a checkpoint is
_DIGEST_BYTES = 32
_LENGTH_BYTES = 4
_SUFFIX = ".checkpoint"


class CheckpointStore:
    """The checkpoints of one study.

    A store that fails never fails a trial: what cannot be written or read is logged, and the next
    attempt at the trial starts from an older checkpoint, or over.

    Args:
        address: a directory, or `s3://bucket/prefix` (the endpoint is taken from AWS_ENDPOINT_URL,
            credentials from where boto3 looks for them).
        uid: of the study.

    Attributes:
        address: the address; that of a directory is absolute.

    Raises:
        StorageError: an address of a kind that is not known or with credentials in it, or boto3 is
            not installed.
    """

    def __init__(self, address: str | Path, uid: str) -> None:
        self.address = place_of(address)
        self._files: Files = open_files(self.address)
        self._uid = uid

    def save(self, lineage: int, data: bytes, *, attempt: int, params: Mapping[str, Any]) -> None:
        """Replace the checkpoint of an attempt, and with it those of earlier attempts.

        An attempt that a later one has followed writes nothing.

        Args:
            params: the parameters of the trial; only a trial with the same ones is given the data.
        """
        header = {
            "uid": self._uid,
            "lineage": lineage,
            "attempt": attempt,
            "parameters": _digest_of(params),
        }
        packed = _pack(header, data)
        try:
            found = self._attempts(lineage)
            if max(found, default=attempt) > attempt:
                return
            self._files.write(self._key(lineage, attempt), packed)
        except Exception as error:
            log.warning(
                "the checkpoint of lineage %d could not be written (%s); "
                "the trial runs on, and a later attempt at it would repeat more",
                lineage,
                self._line(error),
            )
            return
        self._remove(lineage, [key for number, key in found.items() if number != attempt])

    def load(
        self,
        lineage: int,
        *,
        params: Mapping[str, Any],
        attempt: int | None = None,
        expected: bool = False,
    ) -> bytes | None:
        """The data last saved by the latest attempt; None when there are none that can be trusted.

        Args:
            params: the parameters of the trial.
            attempt: the latest that counts; None for no limit.
            expected: whether there should be a checkpoint, so that its absence is logged.
        """
        wanted = {"uid": self._uid, "lineage": lineage, "parameters": _digest_of(params)}
        try:
            found = self._attempts(lineage)
        except Exception as error:
            log.warning(
                "the checkpoint of lineage %d could not be read (%s); that training starts over",
                lineage,
                self._line(error),
            )
            return None
        for number in sorted((n for n in found if attempt is None or n <= attempt), reverse=True):
            try:
                packed = self._files.read(found[number])
            except Exception as error:
                fault = f"cannot be read ({self._line(error)})"
            else:
                if packed is None:  # deleted in the meantime, or its writer was killed
                    continue
                header, data = _unpack(packed)
                if data is not None and {key: header.get(key) for key in wanted} == wanted:
                    return data
                fault = "belongs to other parameters or another study" if header else _fault(packed)
            expected = False  # the line below says why there is none
            log.warning(
                "the checkpoint %s in %s %s and is not used", found[number], self.address, fault
            )
        if expected:
            log.warning(
                "the checkpoint of lineage %d is missing in %s; its trial starts over",
                lineage,
                self.address,
            )
        return None

    def check_writable(self) -> None:
        """Refuse a place in which no checkpoint can be written.

        Raises:
            StorageError: why it cannot.
        """
        key = f"{self._uid}/probe"
        try:
            self._files.write(key, b"")
            self._files.remove(key)
        except Exception as error:
            raise StorageError(
                f"checkpoints cannot be written to {self.address} ({self._line(error)}); make that "
                "place usable, or name another with --checkpoints"
            ) from error

    def delete(self, lineage: int, *, attempt: int | None = None) -> None:
        """Delete the checkpoints of a lineage.

        Args:
            attempt: the latest whose checkpoint is deleted; None for all of a lineage that is over.
        """
        try:
            found = self._attempts(lineage)
        except Exception as error:
            self._kept(lineage, error)
            return
        self._remove(lineage, [key for n, key in found.items() if attempt is None or n <= attempt])

    def delete_all(self) -> int:
        """Delete every checkpoint of the study, those under other prefixes too; returns how many.

        Raises:
            StorageError: they could not be deleted.
        """
        try:
            return self._files.remove_below(self._uid)
        except Exception as error:
            raise StorageError(
                f"the checkpoints in {self.address}, folder {self._uid}, could not be deleted "
                f"({self._line(error)}); delete that folder by hand"
            ) from error

    def scoped(self, name: str) -> "CheckpointStore":
        """The same store under another prefix."""
        other = copy.copy(self)
        other._uid = f"{self._uid}/{name}"
        return other

    def _remove(self, lineage: int, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                self._files.remove(key)
            except Exception as error:
                self._kept(lineage, error)

    def _kept(self, lineage: int, error: Exception) -> None:
        log.warning(
            "the checkpoint of lineage %d could not be deleted (%s)", lineage, self._line(error)
        )

    def _attempts(self, lineage: int) -> dict[int, str]:
        """The keys of a lineage's checkpoints, by attempt; 0 stands for one of an older version."""
        found = {}
        for key in self._files.keys(f"{self._uid}/{lineage:06d}"):
            attempt = key.removeprefix(f"{self._uid}/{lineage:06d}").removesuffix(_SUFFIX)
            if key.endswith(_SUFFIX) and (not attempt or attempt.lstrip(".").isdigit()):
                found[int(attempt.lstrip(".") or 0)] = key
        return found

    def _key(self, lineage: int, attempt: int) -> str:
        return f"{self._uid}/{lineage:06d}.{attempt:06d}{_SUFFIX}"

    def _line(self, error: BaseException) -> str:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        return redact(line, self.address)


def _digest_of(params: Mapping[str, Any]) -> str:
    """A hash of parameters that is the same in every process."""

    def plain(value: Any) -> Any:  # of NumPy's numbers, and of TOML's dates
        return value.item() if hasattr(value, "item") else str(value)

    text = json.dumps(dict(params), sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _pack(header: Mapping[str, Any], data: bytes) -> bytes:
    head = json.dumps(header).encode()
    body = len(head).to_bytes(_LENGTH_BYTES, "big") + head + data
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(packed: bytes) -> tuple[dict[str, Any], bytes | None]:
    """Header and data; an empty header when the file is damaged or of another version."""
    start = len(_MAGIC) + _DIGEST_BYTES
    body = packed[start:]
    if not packed.startswith(_MAGIC) or (
        hashlib.sha256(body).digest() != packed[len(_MAGIC) : start]
    ):
        return {}, None
    end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "big")
    header: dict[str, Any] = json.loads(body[_LENGTH_BYTES:end])
    return header, body[end:]


def _fault(packed: bytes) -> str:
    return "is of an older version" if packed.startswith(_OLDER_MAGIC) else "is damaged"
