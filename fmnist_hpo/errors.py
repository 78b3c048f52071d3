"""The application's own error root."""

__all__ = ["InputError"]


class InputError(Exception):
    """An error a user can cause: one line with the rule, the value received and what to do."""
