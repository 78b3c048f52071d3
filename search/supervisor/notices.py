"""Notices of a study to a URL: one JSON document each, posted beside the supervisor's work.

A document is an object: id (the same for the same event, whoever sends it), event ("best",
"finished" or "halted"), study, uid, at (UTC), state, budget, ended, complete, pruned, failed,
metrics (name -> direction), best (null, or: trial, name, metrics, params), front (with two metrics,
a list of the same), halted (type and place of the error, or null), ended_by (the stop rule in
words, or null).
"""

import json
import logging
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial

from search import attributes
from search.spec.outside import EVENTS, Notify
from search.study.status import Status
from search.text import finite

__all__ = ["Notices", "document"]

log = logging.getLogger(__name__)

PAUSES = (1.0, 5.0)  # seconds before the second and the third attempt
ANSWER_SECONDS = 5.0  # that a server may take
CLOSE_SECONDS = 10.0  # that the end of a run waits for what is still to be sent


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A post that is redirected would become a GET, or carry the document elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Notices:
    """Posts what a supervisor sees happen. No failure of it reaches the run.

    Of an event only the last document waits to be sent: a new best one replaces the one before.

    Args:
        uid: of the study.
        status: how the study stands; what has happened before is no news.
    """

    def __init__(self, notify: Notify, uid: str, status: Status) -> None:
        self._on = tuple(event for event in EVENTS if event in notify.on)
        self._uid = uid
        self._url = os.environ.get(notify.variable, "")
        self._before = status
        self._waiting: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        if not self._url.startswith(("http://", "https://")):
            log.warning(
                "no notice is sent: the environment variable %s holds no http or https URL",
                notify.variable,
            )
            self._on = ()
        self._thread = threading.Thread(target=self._send_all, name="notices", daemon=True)
        self._thread.start()

    def update(self, status: Status) -> None:
        """Take in how the study stands now."""
        before, self._before = self._before, status
        happened = {
            "best": _news(before, status),
            "finished": status.over and not before.over,
            "halted": status.halted is not None and before.halted is None,
        }
        with self._changed:
            for event in self._on:
                if happened[event]:
                    content = finite(document(event, self._uid, status))
                    self._waiting[event] = json.dumps(content, allow_nan=False).encode()
            self._changed.notify()

    def close(
        self, join: Callable[[threading.Thread, float], None] = threading.Thread.join
    ) -> None:
        """Wait a bounded time for what is still to be sent; say what is not.

        Args:
            join: waits for a thread so many seconds at most.
        """
        self._closing.set()
        with self._changed:
            self._changed.notify()
        join(self._thread, CLOSE_SECONDS)
        if self._thread.is_alive():
            log.warning("the run ended before a notice was delivered")

    def _send_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing.is_set():
                    self._changed.wait()
                if not self._waiting:
                    return
                event = next(iter(self._waiting))
                body = self._waiting.pop(event)
            self._send(event, body)

    def _send(self, event: str, body: bytes) -> None:
        why = ""
        for pause in (*PAUSES, None):
            why = self._post(body)
            if not why:
                return
            if pause is not None:
                self._closing.wait(pause)
        log.warning(
            "the notice %r was not delivered after %d attempts: %s", event, len(PAUSES) + 1, why
        )

    def _post(self, body: bytes) -> str:
        """Post a document; why it was not taken, without the URL; empty where it was."""
        headers = {"Content-Type": "application/json", "User-Agent": "fmnist-hpo"}
        try:
            request = urllib.request.Request(self._url, data=body, headers=headers)
            with self._opener.open(request, timeout=ANSWER_SECONDS):
                return ""
        except urllib.error.HTTPError as error:
            error.close()
            return f"the server answered {error.code}"
        except Exception as error:  # its text may hold the URL
            reason = getattr(error, "reason", error)
            return getattr(reason, "strerror", None) or type(reason).__name__


def document(event: str, uid: str, status: Status) -> dict[str, Any]:
    """What is posted of an event; see the head of this module."""
    best = [status.best] if status.best is not None else list(status.front)
    mark = "-".join(str(trial.number) for trial in best) if event == "best" else str(status.ended)
    return {
        "id": f"{uid}:{event}:{mark}",
        "event": event,
        "study": status.name,
        "uid": uid,
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "state": status.state,
        "budget": status.budget,
        "ended": status.ended,
        "complete": status.complete,
        "pruned": status.pruned,
        "failed": status.failed,
        "metrics": dict(status.metrics),
        "best": None if status.best is None else _trial(status.best, status.metrics),
        "front": [_trial(trial, status.metrics) for trial in status.front],
        "halted": status.halted,
        "ended_by": None if status.ended_by is None else status.ended_by.text,
    }


def _news(before: Status, now: Status) -> bool:
    """Whether there is another best trial, or one more on the front."""
    known = {trial.number for trial in (*before.front, before.best) if trial is not None}
    best: Sequence[FrozenTrial | None] = (*now.front, now.best)
    return any(trial is not None and trial.number not in known for trial in best)


def _trial(trial: FrozenTrial, metrics: Mapping[str, str]) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "name": trial.user_attrs.get(attributes.NAME),
        "metrics": dict(zip(metrics, trial.values, strict=True))
        | trial.user_attrs.get(attributes.METRICS, {}),
        "params": trial.params,
    }
