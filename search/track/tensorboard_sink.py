"""Writes trials as TensorBoard's event files, with their curves and HParams."""

from pathlib import Path
from typing import Any

from search.track.folder_sink import FolderSink
from search.track.records import TrackedTrial

__all__ = ["TensorBoardSink"]


class TensorBoardSink(FolderSink):
    """See `FolderSink`; TensorBoard reads the folder of all studies."""

    kind = "tensorboard"

    def load(self) -> None:
        """See `FolderSink.load`."""
        from tensorboard.summary.writer import event_file_writer  # noqa: F401

    def fill(self, folder: Path, trial: TrackedTrial) -> None:
        """See `FolderSink.fill`."""
        _write_events(folder, trial)


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
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in trial.params_and(state=trial.state).items()
    }


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
