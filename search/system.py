"""The operating system that this program runs on: Linux."""

import sys

from search.errors import SearchError

__all__ = ["require_linux"]


def require_linux() -> None:
    """Refuse another system before a module that only Linux has is imported.

    Raises:
        SearchError: this is not Linux.
    """
    if sys.platform != "linux":
        raise SearchError(
            f"this program runs on Linux, got {sys.platform!r}; use a Linux machine, a container, "
            "or WSL on Windows"
        )
