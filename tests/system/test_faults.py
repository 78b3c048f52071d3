"""A study under each fault comes to its end by itself, and is exact."""

from pathlib import Path

import pytest
from chaos import under_fault
from faults import Unavailable

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(600)]


def check(fault: str, directory: Path, storage: str) -> None:
    try:
        report = under_fault(fault, directory / "chaos", storage, lineages=10, workers=2)
    except Unavailable as reason:
        pytest.skip(f"{fault} cannot be tried here: {reason}")
    assert report.faults == ()


@pytest.mark.parametrize("fault", ["stop", "network", "swallow", "statement-timeout", "disk-full"])
def test_postgres(tmp_path: Path, postgres_url: str, fault: str) -> None:
    check(fault, tmp_path, postgres_url)


def test_sqlite_on_a_full_disk(tmp_path: Path, sqlite_url: str) -> None:
    check("disk-full", tmp_path, sqlite_url)
