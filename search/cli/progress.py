"""Progress of a study: live on a terminal, plain lines elsewhere."""

import sys
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search import attributes
from search.attributes import Reason
from search.study.status import Status
from search.text import clock, counted, figure, labelled, show_params, show_trial, verdict

__all__ = ["PlainProgress", "Redrawn", "make_progress", "make_status", "plain_console"]

QUIET_SECONDS = 30.0  # without a line
FRONT_SHOWN = 8  # of the front, the best by the first metric
AMENDMENTS_SHOWN = 3  # the last ones
PAUSED_SHOWN = 5  # of the paused trials, those of which most is expected


def make_progress() -> "PlainProgress | _LiveProgress":
    """A live display when the output is a terminal, plain lines otherwise."""
    return _LiveProgress(plain_console()) if sys.stdout.isatty() else PlainProgress()


def plain_console(width: int | None = None) -> Console:
    """A console that shows names, values and errors as they are: no text is taken for markup."""
    return Console(width=width, highlight=False, markup=False, emoji=False)


class _News:
    """The trials that ended since the last look, a line each.

    What is paused when a budget is used up ends at once, in one line.
    """

    def __init__(self) -> None:
        self._seen: int | None = None  # of `status.finished`, to which later ones are appended

    def lines(self, status: Status) -> list[str]:
        if self._seen is None:  # what an earlier command did is no news
            self._seen = len(status.finished)
        fresh = sorted(status.finished[self._seen :], key=lambda trial: trial.number)
        self._seen = len(status.finished)
        at = clock(status.elapsed_seconds)
        spent = [trial for trial in fresh if _is_out_of_budget(trial)]
        if len(spent) > 1:
            fresh = [trial for trial in fresh if not _is_out_of_budget(trial)]
        lines = [f"[{at}] trial {trial.number} {verdict(trial)}" for trial in fresh]
        if len(spent) > 1:
            lines.append(f"[{at}] {len(spent)} trials {verdict(spent[0])}")
        return lines


def _is_out_of_budget(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(attributes.REASON) == Reason.OUT_OF_BUDGET.value)


class PlainProgress:
    """One line whenever a trial has ended; nothing is overwritten, so a log file stays readable.

    Where trials pause, few end before the budget is used up: a line tells of them now and then.
    """

    def __init__(self) -> None:
        self._news = _News()
        self._spoke = 0.0  # seconds of the study's time

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def update(self, status: Status) -> None:
        news = self._news.lines(status)
        if news:
            best = f", best {figure(status.best.values[0])}" if status.best else ""
            best += f", {len(status.front)} on the front" if status.front else ""
            at = clock(status.elapsed_seconds)
            news.append(f"[{at}] {status.ended}/{status.budget} ended{best}")
        elif status.paused and status.elapsed_seconds - self._spoke >= QUIET_SECONDS:
            news.append(_pausing(status))
        if news:
            self._spoke = status.elapsed_seconds
        for line in news:
            self.say(line)

    def say(self, line: str) -> None:
        print(line, flush=True)


def _pausing(status: Status) -> str:
    """How far the trials are, and the paused one of which most is expected."""
    first = status.paused[0]
    value = "" if first.value is None else f", {status.metric} {figure(first.value)}"
    return (
        f"[{clock(status.elapsed_seconds)}] {len(status.at_work)} running, {len(status.paused)} "
        f"paused, {status.ended} ended; most promising: trial {first.number} at step "
        f"{first.step}{value}"
    )


class _LiveProgress:
    """A bar, the counts, the best so far and the running trials, redrawn below the ended ones."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._news = _News()
        self._begun = False
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "_LiveProgress":
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def update(self, status: Status) -> None:
        self._begun = self._begun or bool(status.running) or status.done
        shown = make_status(status)
        if not self._begun:
            shown.renderables.append(Text("the workers are starting", style="dim"))
        self._live.update(Redrawn(shown))
        for line in self._news.lines(status):
            self.say(line)

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, emoji=False)


@dataclass(frozen=True)
class Redrawn:
    """What is drawn over and over, with room to the right for the ^C that a terminal writes.

    On a full line that would wrap, and the next drawing start a line too low.
    """

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.shown, options.update_width(options.max_width - 4))


def make_status(status: Status) -> Group:
    """A bar, the counts, the best so far, and who works on what since when."""
    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(status.name, style="bold"),
        ProgressBar(total=status.budget, completed=status.ended, width=30),
        f"{status.ended}/{status.budget}",
        f"{clock(status.elapsed_seconds)} elapsed",
        _outlook(status),
    )
    counts = Text(
        f"complete {status.complete} · pruned {status.pruned} · failed {status.failed}"
        f" · running {len(status.at_work)}"
    )
    if status.pauses:
        counts.append(f" · paused {len(status.paused)}")
    if status.most_steps is not None:
        counts.append(f" · steps {status.steps:,} of {status.most_steps:,}")
    if len(status.at_work) < len(status.running):
        counts.append(f" · silent {len(status.running) - len(status.at_work)}", style="yellow")
    for reason, count in sorted(status.reasons.items()):
        counts.append(f" · {reason} {count}", style="yellow")
    parts: list[Any] = [head, counts]
    if status.halted is not None:
        parts.append(Text(f"halted: {status.halted}", style="bold red"))
    if status.held_since is not None:
        since = f"{status.held_since:%Y-%m-%d %H:%M} UTC"
        parts.append(Text(f"paused since {since}: no trial starts until resume", style="yellow"))
    if status.ended_by is not None:
        parts.append(Text(status.ended_by.text))
    parts += _amendments(status)
    if status.best is not None:
        best = Text(f"best {status.metric} ", style="green")
        best.append(figure(status.best.values[0]), style="bold green")
        best.append(f"  trial {status.best.number}  {show_trial(status.best)}")
        parts.append(best)
    parts += [Text(line, style="green") for line in _front(status)]
    parts.append(Text(f"sampler {status.sampler}: {status.sampler_reason}", style="dim"))
    if status.running:
        parts.append(_running(status))
    if status.paused:
        parts.append(_paused(status))
    return Group(*parts)


def _front(status: Status) -> list[str]:
    """The trials that no other betters in both metrics, as far as there is room for them."""
    if not status.front:
        return []
    lines = [f"front of {len(status.front)}: {', '.join(status.metrics)}"]
    for trial in status.front[:FRONT_SHOWN]:
        values = ", ".join(map(figure, trial.values))
        lines.append(f"  {values}  trial {trial.number}  {show_trial(trial)}")
    return lines


def _amendments(status: Status) -> list[Text]:
    """The last amendments, a line each."""
    earlier = len(status.amendments) - AMENDMENTS_SHOWN
    lines = [str(one) for one in status.amendments[-AMENDMENTS_SHOWN:]]
    if earlier > 0:
        lines.insert(0, f"{counted(earlier, 'earlier amendment')}, see --json")
    return [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines]


def _paused(status: Status) -> Table:
    """The most promising of the paused trials."""
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    for heading in ("paused", "trial", "step", status.metric, "expected at its end"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
    for rank, one in enumerate(status.paused[:PAUSED_SHOWN], start=1):
        expected = "-"
        if one.expected is not None and one.deviation is not None:
            expected = f"{figure(one.expected)} ± {one.deviation:.2g}"
        table.add_row(
            f"{rank}.",
            str(one.number),
            str(one.step),
            "-" if one.value is None else figure(one.value),
            expected,
            labelled(one.name, show_params(one.params)),
        )
    return table


def _outlook(status: Status) -> str:
    """When the study will have ended; what it waits for while nobody is at work."""
    remaining = status.remaining_seconds
    if not status.running:
        return status.state
    return "" if remaining is None else f"about {clock(remaining)} left"


def _silence(seconds: float) -> str:
    """For how long a worker was silent; below 0 the database's clock was put back since."""
    return "silent" if seconds < 0 else f"silent for {seconds:.0f} s"


def _running(status: Status) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    for heading in ("worker", "trial", "step", status.metric, "since", "last heartbeat", "lost"):
        table.add_column(heading, justify="left" if heading == "worker" else "right", no_wrap=True)
    table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
    for busy in status.running:
        table.add_row(
            busy.worker,
            str(busy.number),
            str(busy.step),
            "-" if busy.value is None else figure(busy.value),
            clock(busy.since_seconds),
            Text(_silence(busy.heartbeat_seconds), style="yellow")
            if busy.silent
            else f"{busy.heartbeat_seconds:.0f} s",
            str(busy.lost_attempts),
            labelled(busy.name, show_params(busy.params)),
        )
    return table
