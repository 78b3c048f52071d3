"""What a worker says of heartbeats that fail."""

import time

import pytest

from search.errors import StorageError
from search.ledger import Ledger
from search.ledger.heartbeat import Heartbeat


@pytest.mark.parametrize(
    "error", [StorageError("the database rejected the statement"), RuntimeError("no reason")]
)
def test_a_heartbeat_that_fails_is_said_and_sent_again(make_study, monkeypatch, caplog, error):
    study = make_study(trials=1, extra="[workers]\nheartbeat_seconds = 0.1")
    claim = study.ledger.claim("w")
    sent = Ledger.heartbeat
    failures = iter([error, error])

    def failing(self, lease, **options):
        for one in failures:
            raise one
        return sent(self, lease, **options)

    monkeypatch.setattr(Ledger, "heartbeat", failing)
    with Heartbeat(study.ledger, claim.lease) as heartbeat:
        deadline = time.monotonic() + 60
        while next(iter(study.ledger.rows())).heartbeat_age_seconds < 0.2 or not caplog.records:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not heartbeat.lost.is_set()
    assert f"is sent again: {error}" in caplog.text or "RuntimeError: no reason" in caplog.text
