"""The application's own error root, and how text from files is shown."""

__all__ = ["InputError", "printable"]


class InputError(Exception):
    """An error a user can cause: one line with the rule, the value received and what to do.

    Control characters in the message are escaped: names come from files and may hold any.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Text fit for one line of a terminal: every character that cannot be printed is escaped.

    A file's name or a class's name may hold a terminal's escape codes, line ends or the marks that
    reverse the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
