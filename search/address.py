"""Addresses as they may be shown: of storages, checkpoints and trackers, without their secrets.

Every message, log line and file that names an address takes it from here.
"""

import re
from urllib.parse import unquote

__all__ = ["has_secret", "redact", "shown"]

HIDDEN = "***"

#: Query parameters whose values are no secrets. What is not listed here is hidden: libpq reads
#: passwords from several parameters, and a misspelt one may hold a password too.
_PUBLIC = {
    "application_name", "cache", "connect_timeout", "dbname", "host", "hostaddr", "mode", "port",
    "sslmode", "target_session_attrs", "uri", "user",
}  # fmt: skip

#: Secrets of at least this length are hidden wherever they occur in a text, shorter ones only as
#: whole words, as else a password "a" would blacken every "a".
_ANYWHERE_LENGTH = 4


def shown(address: str) -> str:
    """The address with its password, and the values of unknown query parameters, as `***`.

    The address need not be a valid one: what is refused is shown as well.
    """
    return _split(address)[0]


def has_secret(address: str) -> bool:
    """Whether something in an address is not to be shown, and so not to be stored in a file."""
    return shown(address) != address


def redact(text: str, address: str) -> str:
    """A text, such as a driver's error, without the secrets of the address that it is about."""
    public, secrets = _split(address)
    text = text.replace(address, public)
    for secret in sorted(secrets, key=len, reverse=True):
        pattern = re.escape(secret)
        if len(secret) < _ANYWHERE_LENGTH:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(pattern, HIDDEN, text)
    return text


def _split(address: str) -> tuple[str, set[str]]:
    """The address to show, and its secrets, as they stand and decoded."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    secrets = set()
    kind = scheme.strip().lower()
    if not kind.startswith("sqlite") or not rest.startswith("/"):
        # The last @ ends the user's part, as a password that was not encoded may hold others. The
        # path of an SQLite URL, which has no user, may hold any character.
        user, at, host = rest.rpartition("@")
        name, colon, password = user.partition(":")
        named = kind.startswith("postgres") and ":" not in unquote(user)  # a user's name alone
        if at and (colon or (kind and not named)):
            secrets.add(password if colon else name)
            rest = f"{name if colon else ''}{colon}{HIDDEN}@{host}"
    path, mark, query = rest.partition("?")
    if mark:
        parts = []
        for part in query.split("&"):
            key, equals, value = part.partition("=")
            if equals and key.lower() in _PUBLIC:
                parts.append(part)
            else:
                secrets.add(value if equals else key)
                parts.append(f"{key}={HIDDEN}" if equals else HIDDEN)
        rest = f"{path}?{'&'.join(parts)}"
    secrets |= {unquote(secret) for secret in secrets}
    return f"{scheme}{separator}{rest}", secrets - {"", HIDDEN}
