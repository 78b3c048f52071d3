"""Trials, parameters, counts, durations and errors as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import attributes
from search.attributes import Reason

__all__ = [
    "broken",
    "clock",
    "counted",
    "describe_error",
    "ending",
    "figure",
    "finite",
    "install_extra",
    "is_unicode",
    "labelled",
    "on_one_line",
    "percent",
    "printable",
    "shorten",
    "show_params",
    "show_trial",
    "times",
    "verdict",
]

ERROR_CHARACTERS = 1_000  # of an error's line
#: Control characters, which a terminal would obey, but for line feed and tab.
_CONTROL = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if n not in (9, 10)}


def figure(value: float) -> str:
    """A number with four significant digits: 0.8943, 3.2e-05, -374.3, 12346.

    From a million on, and below 0.0001, with an exponent.
    """
    if 9999.5 <= abs(value) < 999_999.5:
        return f"{value:.0f}"
    return f"{value or 0.0:.4g}"  # -0.0 as 0


def percent(share: float) -> str:
    """A share of 1 as a percentage with two decimals: "89.43 %"."""
    return f"{100 * share:.2f} %"


def install_extra(extra: str) -> str:
    """What to do, in an error, where an optional package is missing: it is on no package index."""
    return f"in the checkout, run `uv sync --extra {extra}` or `pip install -e '.[{extra}]'`"


def verdict(trial: FrozenTrial) -> str:
    """How a trial ended, in a few words."""
    reason = trial.user_attrs.get(attributes.REASON)
    if trial.state is TrialState.COMPLETE:
        return f"complete {', '.join(map(figure, trial.values or ()))}{broken(trial)}"
    if reason == Reason.ERROR.value and attributes.ERROR in trial.user_attrs:
        return str(trial.user_attrs[attributes.ERROR])
    if reason is not None:
        return str(reason)
    if trial.state is TrialState.PRUNED and trial.intermediate_values:
        last = max(trial.intermediate_values)
        return f"pruned at step {last} with {figure(trial.intermediate_values[last])}"
    return trial.state.name.lower()


def ending(trial: FrozenTrial) -> str:
    """How a trial ended, in a word: the reason, if it has one, else its state."""
    return str(trial.user_attrs.get(attributes.REASON, trial.state.name.lower()))


def broken(trial: FrozenTrial) -> str:
    """Which constraints a trial breaks, as an addition to how it ended."""
    names = [name for name, excess in trial.constraints.items() if excess > 0]
    return f", breaks the constraint on {' and '.join(names)}" if names else ""


def show_trial(trial: FrozenTrial, params: Mapping[str, Any] | None = None) -> str:
    """A trial's name, where the study file gave it one, and its parameters, or those given."""
    return labelled(trial.user_attrs.get(attributes.NAME), show_params(params or trial.params))


def labelled(name: str | None, text: str) -> str:
    """A text with the name of its trial in front, where the trial has one."""
    return text if name is None else f"{name} {text}"


def show_params(params: Mapping[str, Any]) -> str:
    """Parameters on one line, floats to four significant digits."""
    return " ".join(
        f"{name}={figure(value) if isinstance(value, float) else on_one_line(value)}"
        for name, value in params.items()
    )


def on_one_line(value: Any) -> str:
    """A value for a line of text, whatever it holds: control characters and line ends escaped."""
    return printable(str(value)).replace("\n", "\\n").replace("\t", "\\t")


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 trial", "1,000 trials"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def times(count: int) -> str:
    """How often: "once", "3 times"."""
    return "once" if count == 1 else f"{count} times"


def clock(seconds: float | None) -> str:
    """Seconds as m:ss or h:mm:ss."""
    if seconds is not None and math.isinf(seconds):
        return "infinite"
    whole = round(seconds or 0)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def describe_error(error: BaseException) -> str:
    """An exception on one line: its type and the first line of its message."""
    try:
        message = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        message = "its message cannot be shown"
    line = next(iter(message[: 2 * ERROR_CHARACTERS].splitlines()), "")
    name = " ".join(type(error).__name__[: 2 * ERROR_CHARACTERS].splitlines())
    return printable(shorten(f"{name}: {line}" if line else name, ERROR_CHARACTERS))


def printable(text: str) -> str:
    """A text that every database, log and terminal takes: no control characters but line ends.

    Half of a surrogate pair, as the name of a file that is not in UTF-8 has it, is escaped too.
    """
    return text.translate(_CONTROL).encode(errors="backslashreplace").decode()


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can write a text: it holds no half of a surrogate pair."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def shorten(text: str, length: int) -> str:
    """A text of at most `length` characters: of a longer one its beginning and its end."""
    if len(text) <= length:
        return text
    mark = f" ... {len(text) - length:,} characters ... "
    kept = length - len(mark)
    return text[: kept - kept // 2] + mark + text[len(text) - kept // 2 :]


def finite(value: Any) -> Any:
    """A JSON value with null for each number that is not finite, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return value
