"""Sealed measurements: each is recorded once, whatever the connection does."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from lost_answer import lost_in_commit

from search.ledger.measurements import Sealed, measurements, record
from search.storage import Storage, open_storage, schema


@pytest.fixture
def storage(storage_url: str) -> Iterator[Storage]:
    opened = open_storage(storage_url)
    study = schema.study.insert().values(uid="u", elapsed=0.0)
    opened.write(lambda session: session.execute(study))
    yield opened
    opened.close()


def numbers(storage: Storage) -> list[int]:
    return [measurement.n for measurement in measurements(storage, "u")]


def test_a_repeated_write_is_recognised_as_that_one_write(storage: Storage) -> None:
    payload = {"accuracy": 0.5}
    for n in (1, 2, 3):  # the same content each time
        with lost_in_commit(storage):
            assert record(storage, "u", "s", payload, again=n > 1) == n
        assert numbers(storage) == list(range(1, n + 1))


def test_a_write_that_was_not_committed_is_repeated(storage: Storage) -> None:
    payload = {"accuracy": 0.5}
    record(storage, "u", "s", payload, again=False)
    with lost_in_commit(storage, committed=False):
        assert record(storage, "u", "s", payload, again=True) == 2
    assert numbers(storage) == [1, 2]


def test_a_further_one_is_refused_unless_asked_for(storage: Storage) -> None:
    record(storage, "u", "s", {}, again=False)
    with pytest.raises(Sealed, match="measured once, .* --again"):
        record(storage, "u", "s", {}, again=False)
    assert numbers(storage) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_several_measure_at_once(storage: Storage, storage_url: str, again: bool) -> None:
    def measure(_: int) -> int | None:
        own = open_storage(storage_url)
        try:
            return record(own, "u", "s", {}, again=again)
        except Sealed:
            return None
        finally:
            own.close()

    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(measure, range(5)))
    assert sorted(n for n in found if n) == ([1, 2, 3, 4, 5] if again else [1])
    assert numbers(storage) == sorted(n for n in found if n)
