"""No secret of an address is shown, whatever shape the address has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.address import redact, shown

SECRET = "S3cret"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://u:S3cret@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql+psycopg://u:S3cret@h/db", "postgresql+psycopg://u:***@h/db"),
        ("postgresql://u@h/db?password=S3cret", "postgresql://u@h/db?password=***"),
        ("postgresql://u@h/db?sslmode=require&passwrod=S3cret", None),
        ("postgresql:///db?host=/run/postgresql&service=S3cret", None),
        ("postgresql://u:S3cret@[::1/x", "postgresql://u:***@[::1/x"),
        ("postgresql://u:p@S3cret@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:S3cret/a?b@h/db", None),
        ("postgresql://u@h/db?password=a&S3cret", None),
        ("postgres ://u:S3cret@h/x", None),
        ("grpc://u:S3cret@h:1", "grpc://u:***@h:1"),
        ("https://S3cret@h/bucket", "https://***@h/bucket"),
        ("s3+http://key:S3cret@minio/bucket", "s3+http://key:***@minio/bucket"),
        ("u:S3cret@h/db", "u:***@h/db"),
        ("sqlite:///runs/a@b:c.db", "sqlite:///runs/a@b:c.db"),
        ("sqlite://u:S3cret@/runs/a.db", "sqlite://u:***@/runs/a.db"),
        ("sqlite+pysqlcipher://:S3cret@/a.db", "sqlite+pysqlcipher://:***@/a.db"),
        ("postgresql://u%3AS3cret@h/db", "postgresql://***@h/db"),
        ("sqlite:///file:x.db?mode=ro&uri=true", "sqlite:///file:x.db?mode=ro&uri=true"),
        ("runs/cnn/checkpoints", "runs/cnn/checkpoints"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("embedded", "embedded"),
    ],
)
def test_what_is_shown(address: str, expected: str | None) -> None:
    assert SECRET not in shown(address)
    if expected is not None:
        assert shown(address) == expected


@pytest.mark.parametrize(
    "text",
    [
        'invalid URI query parameter: "S3cret%2F1"',
        'definition of service "S3cret/1" not found',
        "cannot open postgresql://u:S3cret%2F1@h/db",
    ],
)
def test_a_drivers_text_is_shown_without_secrets(text: str) -> None:
    line = redact(text, "postgresql://u:S3cret%2F1@h/db")
    assert "S3cret" not in line
    assert "***" in line


def test_a_short_password_does_not_blacken_every_letter() -> None:
    assert redact("a database of a", "postgresql://u:a@h/db") == "*** database of ***"


NAMES = st.text("abcdefghij", min_size=1, max_size=6)
SECRETS = st.text("KLMNOPQRST0123456789%+~.-_!$()*,", min_size=8, max_size=16)


KEYS = NAMES.filter(lambda name: name != "cache")  # whose value is no secret


@given(scheme=NAMES, user=NAMES, host=NAMES, key=KEYS, secret=SECRETS, other=SECRETS)
def test_no_shape_shows_a_secret(
    scheme: str, user: str, host: str, key: str, secret: str, other: str
) -> None:
    for address in (
        f"{scheme}://{user}:{secret}@{host}/db?{key}={other}",
        f"{scheme}://{user}:{secret}@{host}?sslmode=require&{key}={other}&{other}",
        f"postgresql://{user}@{host}/db?{other}&{key}={secret}",
    ):
        for line in (shown(address), redact(f"no {address}, {secret} or {other}", address)):
            assert secret not in line
            assert other not in line
