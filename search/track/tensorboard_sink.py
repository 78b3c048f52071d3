"""Writes trials as TensorBoard's event files: a folder for each trial, with its curves and HParams.

A folder is written under another name and then renamed, so one that is there is whole.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search.errors import SearchError
from search.text import describe_error, install_extra
from search.track.records import Bundle, Origin, TrackedTrial, Unwritten

__all__ = ["TensorBoardSink"]

_OWNER = "study.json"  # says of which study a folder is


class TensorBoardSink:
    """See `records.Sink`.

    Args:
        folder: holds a folder for each study.
    """

    def __init__(self, folder: str, origin: Origin) -> None:
        try:
            from tensorboard.summary.writer import event_file_writer  # noqa: F401
        except ImportError as error:
            raise SearchError(
                f"the tracker tensorboard needs the extra tensorboard; "
                f"{install_extra('tensorboard')}"
            ) from error
        self._folder = Path(folder).expanduser() / origin.name
        self._origin = origin

    def known(self) -> set[int]:
        """See `records.Sink.known`."""
        with self._one_line():
            self._folder.mkdir(parents=True, exist_ok=True)
            owner = self._folder / _OWNER
            try:
                uid = json.loads(owner.read_text())["uid"]
            except FileNotFoundError:
                content = {"study": self._origin.name, "uid": self._origin.uid}
                owner.write_text(json.dumps(content))
                uid = self._origin.uid
            if uid != self._origin.uid:
                raise Unwritten(
                    f"{self._folder} holds another study named {self._origin.name!r}; move it "
                    "away, or name another folder"
                )
            return {int(each.name.removeprefix("trial-")) for each in self._folder.glob("trial-*")}

    def write(self, trial: TrackedTrial) -> None:
        """See `records.Sink.write`."""
        with self._one_line():
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self._folder))
            try:
                _write_events(draft, trial)
                draft.chmod(0o755)
                os.replace(draft, self._folder / f"trial-{trial.number:05}")  # noqa: PTH105
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise

    def attach(self, bundle: Bundle) -> None:
        """TensorBoard shows no files; nothing is done."""

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            raise Unwritten(f"{self._folder} cannot be written: {describe_error(error)}") from error


def _write_events(folder: Path, trial: TrackedTrial) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    try:
        start = summary_v2.hparams_pb(_hparams(trial), str(trial.number), int(trial.began))
        _add(writer, start, trial.began)
        for name, step, value, at in trial.points():
            _add(writer, Summary(value=[Summary.Value(tag=name, simple_value=value)]), at, step)
        for name, value in trial.final.items():
            one = Summary.Value(tag=f"final/{name}", simple_value=value)
            _add(writer, Summary(value=[one]), trial.ended)
        _add(writer, _end(trial), trial.ended)
    finally:
        writer.close()


def _hparams(trial: TrackedTrial) -> dict[str, bool | int | float | str]:
    """What the page of hyperparameters takes; anything else as text."""
    shown = {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in trial.params.items()
    }
    return {**shown, "state": trial.state}


def _end(trial: TrackedTrial) -> Any:
    """The end of a session of the page of hyperparameters."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    failed = trial.state == "fail"
    status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=trial.ended)
    content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    one = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(content),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[one])


def _add(writer: Any, summary: Any, at: float, step: int = 0) -> None:
    from tensorboard.compat.proto.event_pb2 import Event

    writer.add_event(Event(wall_time=at, step=step, summary=summary))
