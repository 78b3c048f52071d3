"""Commands in messages, completed so that they can be copied and run as they stand.

A message writes a command as `trials toy`, without the program's name and the storage, which the
code below the command line does not know.
"""

import re
import shlex
from collections.abc import Collection

from search.cli.arguments import default_storage
from search.storage import shown
from search.worker.contract import STORAGE_VARIABLE

__all__ = ["complete", "storage_option", "storage_remark"]

_COMMAND = re.compile(r"`([a-z]+(?:-[a-z]+)*)([^`]*)`")
#: Commands without `--storage`.
_WITHOUT_STORAGE = ("new", "plan", "predict", "data", "copy-study")
#: Commands that are run without any words after them; another one is then only named.
_ALONE = ("dashboard", "status")


def complete(message: str, prog: str, known: Collection[str], storage: str | None) -> str:
    """A message whose commands in backticks begin with the program and end with the storage.

    Args:
        prog: the program's name.
        known: names of commands; other words in backticks are left as they are.
        storage: the one that the user named; None for a command that takes none.
    """

    def whole(found: re.Match[str]) -> str:
        name, rest = found.groups()
        if name not in known:
            return found[0]
        option = ""
        if storage is not None and name not in _WITHOUT_STORAGE and _takes_storage(name, rest):
            option = storage_option(storage)
        return f"`{prog} {name}{rest}{option}`"

    return _COMMAND.sub(whole, message)


def _takes_storage(name: str, rest: str) -> bool:
    """Whether a command with these words after it is to be run on a storage."""
    return (bool(rest) or name in _ALONE) and "--help" not in rest and "--storage" not in rest


def storage_option(url: str) -> str:
    """` --storage URL` for a command in a message; "" for the default.

    A URL with a secret is not shown: the variable stands for it, see `storage_remark`.
    """
    if url == default_storage():
        return ""
    if shown(url) != url:
        return f' --storage "${STORAGE_VARIABLE}"'
    return f" --storage {shlex.quote(url)}"


def storage_remark(url: str) -> str | None:
    """What to do before commands in a message work, where their storage may not be shown."""
    if url == default_storage() or shown(url) == url:
        return None
    return f"set ${STORAGE_VARIABLE} to the address of {shown(url)} first: it holds a password"
