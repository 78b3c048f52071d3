"""Writes trials to an MLflow server: an experiment for each study, a run for each trial."""

import errno
import fcntl
import hashlib
import itertools
import os
import posixpath
import re
import socket
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from search.errors import SearchError
from search.text import describe_error, install_extra, shorten
from search.track.records import Bundle, Origin, TrackedTrial, Unwritten

__all__ = ["MlflowSink"]

UID, TRIAL, WHOLE, BUNDLE = (
    f"fmnist-hpo.{name}" for name in ("uid", "trial", "whole", "bundle")
)  # tags of a run
#: Switches of MLflow's client: it reports its use to its makers, and prints links.
_QUIET = ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT")
CONNECT_SECONDS = 5.0
#: Of the servers that MLflow's client reaches by itself, where the address names none.
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
BATCH, FEW = 1_000, 100  # points, and parameters or tags, that the server takes at once
PARAM_CHARACTERS = 6_000  # of a parameter's value
TAG_CHARACTERS = 5_000
_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "fail": "FAILED"}
_NAME = re.compile(r"[^\w./ -]")  # what a name may not hold


class MlflowSink:
    """See `records.Sink`. As long as it lives no other process of this user and machine has one.

    Two of them would write a trial twice, and each would delete the run that the other has begun.

    Args:
        uri: of the tracking server, or of a file or database that MLflow's client opens.
    """

    def __init__(self, uri: str, origin: Origin) -> None:
        for variable in _QUIET:
            os.environ.setdefault(variable, "true")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise SearchError(
                f"the tracker mlflow needs the extra mlflow; {install_extra('mlflow')}"
            ) from error
        self._uri = uri
        self._origin = origin
        weakref.finalize(self, os.close, _lock(uri, origin))
        with self._reached():
            self._client: Any = MlflowClient(tracking_uri=uri)
        self._runs: dict[int, Any] = {}

    def known(self) -> set[int]:
        """See `records.Sink.known`."""
        with self._reached():
            self._experiment = self._find_experiment()
            self._runs = dict(self._find_runs())
        return set(self._runs)

    def write(self, trial: TrackedTrial) -> None:
        """See `records.Sink.write`. The tag that marks a run as whole is set last."""
        with self._reached():
            run = self._client.create_run(
                self._experiment,
                start_time=round(1000 * trial.began),
                run_name=f"trial {trial.number}",
                tags={
                    UID: self._origin.uid,
                    TRIAL: str(trial.number),
                    "state": trial.state,
                    "spec": self._origin.spec,
                },
            )
            identity = run.info.run_id
            self._log(identity, trial)
            status = _STATUS[trial.state]
            self._client.set_terminated(identity, status, round(1000 * trial.ended))
            self._client.set_tag(identity, WHOLE, "true")
            self._runs[trial.number] = self._client.get_run(identity)

    def attach(self, bundle: Bundle) -> None:
        """See `records.Sink.attach`; the files lie under `bundle`."""
        run = self._runs.get(bundle.trial)
        if run is None:
            return
        digest = _digest(bundle)
        if run.data.tags.get(BUNDLE) == digest:
            return
        with self._reached():
            self._client.log_artifacts(run.info.run_id, str(bundle.path), "bundle")
            self._client.set_tag(run.info.run_id, BUNDLE, digest)

    def _log(self, run: str, trial: TrackedTrial) -> None:
        from mlflow.entities import Metric, Param, RunTag

        curves, finals = _names(trial.curves), _names(trial.final)
        points = [
            Metric(curves[name], value, round(1000 * at), step)
            for name, step, value, at in trial.points()
        ]
        points += [
            Metric(f"final/{finals[name]}", value, round(1000 * trial.ended), 0)
            for name, value in trial.final.items()
        ]
        names = _names(trial.params)
        params = [
            Param(names[name], shorten(str(value), PARAM_CHARACTERS))
            for name, value in trial.params.items()
        ]
        names = _names(trial.tags)
        tags = [
            RunTag(names[name], shorten(value, TAG_CHARACTERS))
            for name, value in trial.tags.items()
        ]
        for part in _parts(points, BATCH):
            self._client.log_batch(run, metrics=part)
        for part in _parts(params, FEW):
            self._client.log_batch(run, params=part)
        for part in _parts(tags, FEW):
            self._client.log_batch(run, tags=part)

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._origin.name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(self._origin.name))

    def _find_runs(self) -> Iterator[tuple[int, Any]]:
        """The whole runs of the study by trial; what an earlier call left half is deleted."""
        page = None
        while True:
            runs = self._client.search_runs(
                [self._experiment], f"tags.`{UID}` = '{self._origin.uid}'", page_token=page
            )
            for run in runs:
                if run.data.tags.get(WHOLE) == "true":
                    yield int(run.data.tags[TRIAL]), run
                else:
                    self._client.delete_run(run.info.run_id)
            page = runs.token
            if not page:
                return

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Refuse at once a server that does not answer: MLflow's client tries for minutes."""
        try:
            address = urlsplit(self._uri)
            place = address.hostname, address.port or _PORTS.get(address.scheme.partition("+")[0])
            if None not in place:
                socket.create_connection(place, CONNECT_SECONDS).close()
            elif address.scheme in ("http", "https"):
                raise ValueError
        except OSError as error:
            raise Unwritten(
                f"{self._uri} does not answer: {error.strerror or type(error).__name__}"
            ) from error
        except ValueError as error:  # no host, a port that is no number, a name that cannot be one
            raise Unwritten(f"{self._uri} is no address of a server; correct it") from error
        with _one_line(self._uri):
            yield


def _lock(uri: str, origin: Origin) -> int:
    """The descriptor of a file that is locked until it is closed or this process ends.

    Raises:
        Unwritten: another process holds it.
    """
    name = hashlib.sha256(f"{uri} {origin.uid}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"fmnist-hpo-{os.getuid()}-track-{name}.lock")
    with _one_line(uri):
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            raise Unwritten(
                f"another command writes {origin.name!r} to {uri}, such as a run whose study file "
                "has [track]; wait until it has ended"
            ) from error
        raise Unwritten(f"{path} cannot be locked: {describe_error(error)}") from error
    return descriptor


@contextmanager
def _one_line(uri: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise Unwritten(f"{uri} refuses: {describe_error(error)}") from error


def _names(names: Iterable[str]) -> dict[str, str]:
    """Each name as the server takes it, distinct from that of each other."""
    taken: set[str] = set()
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: _name(name) != name):
        found[name] = next(
            each
            for number in itertools.count(1)
            if (each := _name(name) if number == 1 else f"{_name(name)}_{number}") not in taken
        )
        taken.add(found[name])
    return found


def _name(name: str) -> str:
    """A name of characters that the server takes, and not one that as a path is another's."""
    taken = _NAME.sub("_", name)[:240]
    if taken.startswith((".", "/")) or posixpath.normpath(taken) != taken:
        taken = re.sub(r"[./]", "_", taken)
    return taken


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[n : n + size] for n in range(0, len(items), size))


def _digest(bundle: Bundle) -> str:
    """SHA-256 over the files of a folder and their names."""
    digest = hashlib.sha256()
    for path in sorted(each for each in bundle.path.rglob("*") if each.is_file()):
        content: Mapping[str, str] = {"name": str(path.relative_to(bundle.path))}
        digest.update(content["name"].encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
