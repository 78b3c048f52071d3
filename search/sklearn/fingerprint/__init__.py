"""What a stored search is a search of, compared by content."""

from search.sklearn.fingerprint.fingerprint import (
    SearchChanged,
    check_same,
    describe_random_state,
    fingerprint,
)

__all__ = ["SearchChanged", "check_same", "describe_random_state", "fingerprint"]
