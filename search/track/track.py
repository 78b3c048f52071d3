"""Brings trackers up to date: what is written already stays, only what is new is added."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from search.spec.outside import Tracker
from search.track.records import Bundle, Origin, Sink, TrackedTrial, Unwritten

__all__ = ["Outcome", "bring_up_to_date", "open_sink"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of it.

    Attributes:
        written: numbers of the trials that were written now.
        missing: of those that could not be.
        error: why, in a line; None where nothing is missing.
    """

    written: tuple[int, ...]
    missing: tuple[int, ...]
    error: str | None


def open_sink(tracker: Tracker, origin: Origin) -> Sink:
    """A tracker for one study.

    Raises:
        SearchError: its package is not installed.
        Unwritten: its address is none.
    """
    if tracker.kind == "mlflow":
        from search.track.mlflow_sink import MlflowSink

        return MlflowSink(tracker.address, origin)
    if tracker.kind == "wandb":
        from search.track.wandb_sink import WandbSink

        return WandbSink(tracker.address, origin)
    from search.track.tensorboard_sink import TensorBoardSink

    return TensorBoardSink(tracker.address, origin)


def bring_up_to_date(
    sink: Sink,
    trials: Sequence[TrackedTrial],
    bundles: Iterable[Bundle] = (),
    *,
    known: Collection[int] | None = None,
) -> Outcome:
    """Write the trials that a tracker does not have yet; stops at the first that it refuses.

    Args:
        bundles: exported folders, which are attached to their trials.
        known: numbers of the trials that were written before; None: the tracker is asked.
    """
    written: list[int] = []
    numbers = [trial.number for trial in trials]
    try:
        if known is None:
            known = sink.known()
        for trial in trials:
            if trial.number not in known:
                sink.write(trial)
                written.append(trial.number)
        for bundle in bundles:
            sink.attach(bundle)
    except Unwritten as error:
        missing = tuple(n for n in numbers if n not in (known or ()) and n not in written)
        return Outcome(written=tuple(written), missing=missing, error=str(error))
    return Outcome(written=tuple(written), missing=(), error=None)
