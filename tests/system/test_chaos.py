"""Real processes under fire, on SQLite and on a Postgres that is restarted underneath them."""

from pathlib import Path

import pytest
from chaos import chaos

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
def test_sqlite_under_fire(tmp_path: Path, sqlite_url: str) -> None:
    report = chaos(tmp_path, sqlite_url, lineages=24, workers=4, kills=12)
    assert report.faults == ()
    assert report.killed_supervisors == 1
    assert report.killed_workers == 12
    assert report.lost > 0


@pytest.mark.timeout(600)
def test_postgres_under_fire_and_restarted_twice(tmp_path: Path, postgres, postgres_url) -> None:
    restarts = [(0.3, postgres.restart), (0.7, lambda: postgres.restart(away_seconds=3))]
    report = chaos(tmp_path, postgres_url, lineages=24, workers=4, kills=12, events=restarts)
    assert report.faults == ()
    assert report.killed_supervisors == 1
    assert report.killed_workers == 12
    assert report.lost > 0


@pytest.mark.timeout(600)
def test_an_extended_study_under_fire(tmp_path: Path, storage_url: str) -> None:
    report = chaos(tmp_path, storage_url, lineages=16, workers=3, kills=6, more=5)
    assert report.faults == ()
    assert report.killed_workers == 6


@pytest.mark.timeout(600)
def test_paused_trials_under_fire(tmp_path: Path, storage_url: str) -> None:
    report = chaos(tmp_path, storage_url, lineages=24, workers=3, kills=8, pauses=True)
    assert report.faults == ()
    assert report.killed_supervisors == 1
    assert report.killed_workers == 8
    assert report.lost > 0
