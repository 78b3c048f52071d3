"""How workers are started: a `Launcher` per engine, with one policy on top (`supervisor.run`).

What must be exact is in the ledger. A launcher only keeps worker processes alive and says how each
of them ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Exit", "Launcher", "Scripted"]


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A worker that is no more.

    Attributes:
        name: as in the ledger; "" where the engine cannot say.
        code: its exit code, negative for a signal; None: the engine ended it or lost sight of it.
        how: for a person, such as "by SIGKILL" or "with its node".
        tail: the last line that it printed.
        refused: the worker's own words when it refused to work; "" when it did not.
        over: whether it left because the study is over.
        certain: whether it is dead for certain, so that its lease may be released at once.
        blame: whether its trial is to blame, which counts as a loss; False when an engine, an
            operator or the storage ended it.
        replaced: whether the engine starts another worker by itself.
    """

    name: str
    code: int | None
    how: str
    tail: str = ""
    refused: str = ""
    over: bool = False
    certain: bool = True
    blame: bool = True
    replaced: bool = False

    @property
    def is_death(self) -> bool:
        """Whether it counts among the deaths in a row that end a run.

        What an engine did to a worker does not count. A worker that left by itself does, also
        without blame: a problem may send SIGTERM to its own process.
        """
        return self.blame or self.code is not None


class Launcher(Protocol):
    """Starts workers on one engine.

    Attributes:
        where: the engine and its size, for the line "workers" of a plan.
        survives: whether workers go on when this process is gone.
    """

    @property
    def where(self) -> str: ...

    @property
    def survives(self) -> bool: ...

    def start(self, count: int) -> None:
        """Start `count` more workers; the first call counts those of an earlier command."""
        ...

    def poll(self) -> Sequence[Exit]:
        """The workers that ended since the last call; never waits for one."""
        ...

    def counts(self) -> tuple[int, int]:
        """How many workers run, and how many wait in the engine's queue."""
        ...

    def gone(self, names: Sequence[str]) -> Sequence[str]:
        """Those of these workers, of an earlier command, that are dead for certain."""
        ...

    def end(self, name: str) -> None:
        """Begin to end one worker that no longer answers; `poll` returns it when it is gone."""
        ...

    def stop(self) -> Sequence[Exit]:
        """Ask every worker to release its trial and leave, and end those that do not in time.

        Returns:
            The workers that were there; a trial that one of them still holds is released.
        """
        ...


@runtime_checkable
class Scripted(Protocol):
    """A launcher that submits a script which can be shown first."""

    def script(self, count: int) -> str:
        """What `start` would submit for so many workers."""
        ...
