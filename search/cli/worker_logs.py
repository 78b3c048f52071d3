"""What workers wrote about one trial: the part of a log between its beginning and the next trial's.

`logs --json` prints one object:
    study, trial, attempts (a list of: attempt, worker, began, ended, how, log (its path),
    text (null where the log does not lie here)); times are UTC.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.errors import SearchError
from search.ledger import Attempt
from search.study import Study
from search.supervisor.launchers.logs import log_folder

__all__ = ["attempts_of", "follow", "log_record", "print_logs"]

FOLLOW_SECONDS = 1.0
#: What a worker logs when it begins a trial or goes on with it; see `search.worker.worker`.
_BEGINS = re.compile(r"^\S+ INFO trial (\d+) (?:begins|goes on with attempt (\d+))$", re.MULTILINE)

#: The name of a worker on Slurm, whose log goes on when its task is requeued.
_RESTARTED = re.compile(r"^(slurm-\d+_\d+)\.\d+$")


def attempts_of(study: Study, number: int) -> list[Attempt]:
    """The attempts at a trial, the first one first.

    Raises:
        SearchError: there is no such trial, or no worker ran it.
    """
    study.trial(number)
    found = [each for each in study.ledger.attempts() if each.trial == number]
    if not found:
        raise SearchError(
            f"no worker ran trial {number} of study {study.name!r}, another program added it; "
            f"`trials {study.name}` lists the others"
        )
    return found


def log_path(study: Study, attempt: Attempt) -> Path:
    """Where the log of an attempt's worker lies, if the worker was started from this folder."""
    worker = _RESTARTED.sub(r"\1", attempt.worker or "")
    return log_folder(study.name) / f"{worker}.log"


def log_text(study: Study, attempt: Attempt) -> str | None:
    """What the worker of an attempt wrote during it; None where its log does not lie here.

    The whole log, where an older version of the worker did not log the beginnings of trials.
    """
    try:
        text = log_path(study, attempt).read_text(errors="backslashreplace")
    except OSError:
        return None
    begins = list(_BEGINS.finditer(text))
    if not begins:
        return text
    for index, found in enumerate(begins):
        if int(found[1]) == attempt.trial and int(found[2] or 1) == attempt.attempt:
            following = begins[index + 1 :]
            return text[found.start() : following[0].start() if following else None]
    return ""


def missing(study: Study, attempt: Attempt) -> str:
    """One line on a log that does not lie here."""
    if attempt.worker is None:
        return f"attempt {attempt.attempt}: an older version did not record its worker"
    return (
        f"attempt {attempt.attempt}: there is no {log_path(study, attempt)}; worker "
        f"{attempt.worker} was started from another folder or on another machine, or by Ray or "
        "Kubernetes, which keep its log"
    )


def print_logs(study: Study, attempts: Sequence[Attempt]) -> None:
    """Print what the workers wrote during these attempts.

    Raises:
        SearchError: none of their logs lies here.
    """
    texts = [(each, log_text(study, each)) for each in attempts]
    if all(text is None for _, text in texts):
        raise SearchError(missing(study, attempts[-1]))
    for each, text in texts:
        print(missing(study, each) if text is None else text.rstrip("\n"), flush=True)


def follow(study: Study, number: int) -> None:
    """Print what the workers write on a trial, until it has ended."""
    shown: dict[int, int] = {}  # attempt -> characters
    over = False
    while True:
        for each in attempts_of(study, number):
            text = log_text(study, each)
            if text is None:
                text = f"{missing(study, each)}\n"
            print(text[shown.get(each.attempt, 0) :], end="", flush=True)
            shown[each.attempt] = max(len(text), shown.get(each.attempt, 0))
        if over:
            return
        over = study.trial(number).state.is_finished()
        time.sleep(FOLLOW_SECONDS)  # the worker writes of the end after the end


def log_record(study: Study, number: int, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The logs of a trial; see the head of this module."""
    return {
        "study": study.name,
        "trial": number,
        "attempts": [
            {
                "attempt": each.attempt,
                "worker": each.worker,
                "began": each.began.isoformat(),
                "ended": None if each.ended is None else each.ended.isoformat(),
                "how": each.how,
                "log": str(log_path(study, each)),
                "text": log_text(study, each),
            }
            for each in attempts
        ],
    }
