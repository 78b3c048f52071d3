"""Who is logged in, and how often somebody may try."""

import hashlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

from itsdangerous import BadSignature, Signer, TimestampSigner

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
    """Signed tokens with an expiry; the secret lives as long as the process.

    A session that was closed before its expiry is remembered until then.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        secret = secrets.token_bytes(32)
        self._signer = _Signer(secret, salt="session", digest_method=hashlib.sha256)
        self._signer.clock = clock
        self._csrf = Signer(secret, salt="csrf", digest_method=hashlib.sha256)
        self._closed: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def open(self) -> str:
        """Start a session and return its token (URL-safe)."""
        return self._signer.sign(secrets.token_urlsafe(32)).decode()

    def is_open(self, token: str) -> bool:
        """Whether the token was given out, has not expired and was not closed."""
        name = self._name(token)
        with self._lock:
            return name is not None and name not in self._closed

    def close(self, token: str) -> None:
        """End a session: its token opens nothing any more."""
        name, now = self._name(token), self._clock()
        if name is not None:
            with self._lock:
                self._closed = {key: end for key, end in self._closed.items() if end > now}
                self._closed[name] = now + SESSION_S

    def csrf_token(self, token: str) -> str:
        """The token that a write in this session must carry besides the cookie."""
        return self._csrf.get_signature(token).decode()

    def is_csrf_token(self, token: str, given: str) -> bool:
        """Whether `given` is the session's `csrf_token`; compared in constant time."""
        return self._csrf.verify_signature(token, given)

    def _name(self, token: str) -> bytes | None:
        """The random part of a token with a right signature; None of any other."""
        try:
            return self._signer.unsign(token, max_age=int(SESSION_S) - 1)
        except BadSignature:  # also when it has expired
            return None


class _Signer(TimestampSigner):
    clock: Callable[[], float]

    def get_timestamp(self) -> int:
        return int(self.clock())


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
