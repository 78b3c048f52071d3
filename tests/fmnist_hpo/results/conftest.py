"""Commands in the test's own process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist_hpo import cli


@pytest.fixture
def out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a command in the test's folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str, code: int = 0) -> str:
        assert cli.main(list(argv)) == code
        return "".join(capsys.readouterr())

    return run
