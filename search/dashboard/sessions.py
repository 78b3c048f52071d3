"""Who is logged in, and how often somebody may try."""

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = [
    "ATTEMPTS_PER_ADDRESS",
    "ATTEMPTS_TOTAL",
    "SESSION_S",
    "WINDOW_S",
    "Attempts",
    "Sessions",
]

SESSION_S = 12 * 3600.0  # seconds a log-in is good for; a restart of the server ends it too
WINDOW_S = 60.0  # seconds over which failed attempts are counted
ATTEMPTS_PER_ADDRESS = 5
ATTEMPTS_TOTAL = 30  # bounds guessing from many addresses, and the memory of `Attempts`


class Sessions:
    """Random tokens, kept on the server as hashes, with an expiry."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._expiry: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def open(self) -> str:
        """Start a session and return its token (256 random bits, URL-safe)."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._expiry = {key: end for key, end in self._expiry.items() if end > now}
            self._expiry[_digest(token)] = now + SESSION_S
        return token

    def is_open(self, token: str) -> bool:
        """Whether the token was given out and has not expired.

        The look-up is by hash, so its timing tells nothing about a token.
        """
        with self._lock:
            return self._expiry.get(_digest(token), 0.0) > self._clock()

    def csrf_token(self, token: str) -> str:
        """The token that a write in this session must carry besides the cookie."""
        return hmac.new(self._secret, token.encode(), hashlib.sha256).hexdigest()


class Attempts:
    """A sliding window over failed log-ins, per address and in total."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: deque[tuple[float, str]] = deque()
        self._lock = threading.Lock()

    def take(self, address: str) -> float:
        """Count an attempt before the password is looked at, so that parallel guesses count too.

        Returns:
            0.0 when the attempt may go on, else the seconds to wait; it is then not counted.
        """
        now = self._clock()
        with self._lock:
            while self._failed and self._failed[0][0] <= now - WINDOW_S:
                self._failed.popleft()
            own = [moment for moment, who in self._failed if who == address]
            if len(own) >= ATTEMPTS_PER_ADDRESS:
                return own[0] + WINDOW_S - now
            if len(self._failed) >= ATTEMPTS_TOTAL:
                return self._failed[0][0] + WINDOW_S - now
            self._failed.append((now, address))
            return 0.0

    def forgive(self, address: str) -> None:
        """The password was right: forget the attempts of this address."""
        with self._lock:
            self._failed = deque(entry for entry in self._failed if entry[1] != address)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
