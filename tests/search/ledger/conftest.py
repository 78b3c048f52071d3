"""A ledger of three lineages on each database, with a clock that the test turns."""

from collections.abc import Iterator

import pytest
from ledger_clock import MAXIMIZE, HandClock, limits

from search.ledger import Ledger
from search.storage import Storage, open_storage


@pytest.fixture
def storage(storage_url: str) -> Iterator[Storage]:
    opened = open_storage(storage_url)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(storage: Storage, clock: HandClock) -> Ledger:
    return Ledger.create(
        storage,
        "s",
        directions=MAXIMIZE,
        lineages=3,
        user_attrs=limits(max_retries=2),
        system_attrs={"a": 1},
        clock=clock,
    )
