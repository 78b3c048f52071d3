"""Where an exported model says that it comes from, and what `data verify` leaves undone."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import sqlalchemy as sa
from toy import toy_spec

import search
from fmnist_hpo import cli, data
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.fields import Fields
from fmnist_hpo.errors import InputError
from fmnist_hpo.results import measurement, winner


def test_the_commit_of_a_checkout_that_merely_lies_around_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*args: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@t.invalid")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *args], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    installed, file = tmp_path / "site-packages", tmp_path / "winner.py"
    installed.mkdir()
    for place in (file, installed / "winner.py"):
        place.touch()
    git("add", "winner.py")
    git("commit", "-qm", "theirs")
    monkeypatch.setattr(winner, "__file__", str(installed / "winner.py"))
    assert winner._git_commit() is None
    monkeypatch.setattr(winner, "__file__", str(file))
    assert winner._git_commit() == git("rev-parse", "HEAD")


def test_a_bundle_of_another_study_is_refused_without_the_password_of_the_storage(
    postgres_url: str, exported: Bundle
) -> None:
    url = sa.make_url(postgres_url).set(password="hushhush")
    study = search.create(toy_spec(), storage=url.render_as_string(hide_password=False))
    with pytest.raises(InputError, match="is not of the study 'toy' in") as caught:
        measurement.measure(study, exported, again=False)
    study.storage.close()
    assert "hushhush" not in str(caught.value)


def test_what_is_said_of_many_amendments_can_be_read_back() -> None:
    noon = datetime(2026, 11, 29, 12, tzinfo=UTC)
    amendment = MagicMock(at=noon, __str__=lambda self: "space.x " * 1000)
    ledger = SimpleNamespace(attrs={})
    study = SimpleNamespace(refresh=lambda: None, amendments=[amendment] * 5, ledger=ledger)
    found = [SimpleNamespace(at=noon + timedelta(hours=hours), payload={}) for hours in (-1, 1)]
    remark = measurement._remark(study, found)  # type: ignore[arg-type]
    assert remark.startswith("The study was amended after its test set had been measured, on 2026")
    assert Fields({"remark": remark}, "here").text("remark") == remark

    study.amendments = []
    found[-1].payload["finished"] = 3
    assert measurement._remark(study, found) == ""  # type: ignore[arg-type]  # the first says none
    found[0].payload["finished"] = 1
    assert "2 trials ended since" in measurement._remark(study, found)  # type: ignore[arg-type]


def test_verify_fetches_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "look", lambda: None)
    monkeypatch.setattr(data, "find", lambda: pytest.fail("it would have downloaded"))
    assert cli.main(["data", "verify"]) == 2
    assert "`fmnist-hpo data fetch` fetches it" in capsys.readouterr().err


def test_a_refused_bundle_is_told_without_the_storages_password(exported: Bundle) -> None:
    shown = SimpleNamespace(url="postgresql://u:***@h/d", address="postgresql://u:secret@h/d")
    study = SimpleNamespace(name="small", uid="another", storage=shown)
    with pytest.raises(InputError) as caught:
        measurement.measure(study, exported, again=False)  # type: ignore[arg-type]
    assert "u:***@h" in str(caught.value)
    assert "secret" not in str(caught.value)
