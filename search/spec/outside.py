"""Where a study is told of outside its storage: the tables `[notify]` and `[track]`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.address import has_secret
from search.errors import SpecError
from search.spec.keys import keys_of
from search.spec.values import check_table, shown, value_of

__all__ = ["EVENTS", "TRACKERS", "Notify", "Tracker", "parse_notify", "parse_track", "read_tracker"]

#: What a notice may be sent of.
EVENTS = ("best", "finished", "halted")
#: Kinds of trackers, and what stands behind the colon.
TRACKERS = {"mlflow": "URI", "tensorboard": "DIR", "wandb": "DIR"}
_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, kw_only=True)
class Notify:
    """Notices of a study.

    Attributes:
        variable: the environment variable that holds the URL, which is a secret.
        on: the events of which one is sent.
    """

    variable: str
    on: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """A tracker by its kind, and its address: a URI or a folder."""

    kind: str
    address: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.address}"


def parse_notify(table: Mapping[str, Any] | None, where: str) -> Notify | None:
    """The table `[notify]`; None where there is none.

    Raises:
        SpecError: names the key, the rule and what to do; a URL is not repeated, as it is a secret.
    """
    if table is None:
        return None
    keys, here = keys_of("notify"), f"{where}: notify"
    check_table(table, "notify", keys, where)
    url, events = (value_of(table, keys[key], here) for key in ("url", "on"))
    variable = _VARIABLE.fullmatch(url)
    if variable is None:
        raise SpecError(
            f'{here}: url names an environment variable, such as "env:HOOK", as the URL is a '
            "secret and a study file is shown; got something else"
        )
    if not events or any(not isinstance(event, str) or event not in EVENTS for event in events):
        raise SpecError(f"{here}: on lists some of {', '.join(EVENTS)}, got {shown(events)}")
    return Notify(variable=variable[1], on=tuple(dict.fromkeys(events)))


def parse_track(table: Mapping[str, Any] | None, where: str) -> tuple[Tracker, ...]:
    """The table `[track]`.

    Raises:
        SpecError: names the key, the rule, the value received and what to do.
    """
    if table is None:
        return ()
    keys = keys_of("track")
    check_table(table, "track", keys, where)
    addresses = value_of(table, keys["to"], f"{where}: track")
    return tuple(read_tracker(address, f"{where}: track.to") for address in addresses)


def read_tracker(text: Any, where: str) -> Tracker:
    """A tracker such as "tensorboard:runs/board".

    Raises:
        SpecError: it is of no known kind, or has no address, or one with a password.
    """
    if isinstance(text, str):
        kind, _, address = text.partition(":")
        # Of no known kind, the whole is an address; a folder may have any name.
        may_hold = TRACKERS.get(kind) != "DIR" or "//" in address
        if may_hold and has_secret(address if kind in TRACKERS else text):
            raise SpecError(
                f"{where}: an address that is stored and shown has no password or token; "
                "leave it out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN"
            )
        if text.isprintable() and kind in TRACKERS and address:
            return Tracker(kind=kind, address=address)
    *most, last = (f"{kind}:{what}" for kind, what in TRACKERS.items())
    forms = f"{', '.join(most)} or {last}"
    raise SpecError(f"{where}: a tracker is {forms}, got {shown(text)}")
