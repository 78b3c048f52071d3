"""A study of real networks in a real Chromium: its best trial, its pictures, its note."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect
from slices import write_slice

import search
from search.study import Study
from tests.browser.conftest import Tab

pytestmark = pytest.mark.slow

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "slice"
metric = "val_accuracy"
direction = "maximize"
[budget]
trials = 3
[data]
dir = "data"
[fixed]
family = "ann"
epochs = 3
batch_size = 32
[space]
hidden_units = { int = [16, 64], log = true }
learning_rate = { float = [1e-3, 1e-2], log = true }
"""


@dataclass(frozen=True)
class Shown:
    """A finished, exported and not yet measured study, and the dashboard that shows it."""

    study: Study
    page: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    from fmnist_hpo.results.places import bundle_path
    from fmnist_hpo.results.showcase import showcase
    from fmnist_hpo.results.winner import export_trial

    with pytest.MonkeyPatch.context() as patch:
        folder: Path = tmp_path_factory.mktemp("slice")
        patch.chdir(folder)
        write_slice(folder / "data")
        study = search.create(SPEC)
        search.work(study)
        bundle = export_trial(study, None, bundle_path(study), refit=False)
        showcase(study, bundle)
        before = study.storage.optuna.get_study_system_attrs(study.ledger.study_id)
        showcase(study, bundle)
        assert study.storage.optuna.get_study_system_attrs(study.ledger.study_id) == before
        command = [sys.executable, "-m", "fmnist_hpo.cli", "dashboard", "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = process.stdout.readline().split()[1].rstrip("/")
            yield Shown(study, f"{address}/dashboard/studies/{study.ledger.study_id}")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        study.storage.close()


def test_the_page_shows_the_best_value_and_the_note(shown: Shown, tab: Tab) -> None:
    best = shown.study.best
    tab.page.goto(shown.page)
    expect(tab.page.get_by_text(f"Best Trial (number={best.number})")).to_be_visible()
    expect(tab.page.get_by_role("heading", name=str(best.value))).to_be_visible()
    tab.page.goto(f"{shown.page}/note")
    expect(tab.page.get_by_text("runs/slice/bundle")).to_be_visible()
    expect(tab.page.get_by_text("test set not measured")).to_be_visible()
    with tab.page.expect_response("**/artifacts/**") as answer:
        tab.page.get_by_role("link", name="model card").click()
    assert answer.value.body() == Path("runs/slice/bundle/MODEL_CARD.md").read_bytes()


def test_the_best_trials_pictures_are_shown(shown: Shown, tab: Tab) -> None:
    assert sizes(tab, shown, shown.study.best.number) == {
        "curves.png": True,
        "validation-confusion.png": True,
        "validation-samples.png": True,
    }
    assert tab.complaints == []


def test_the_others_show_their_curves(shown: Shown, tab: Tab) -> None:
    other = next(t for t in shown.study.trials if t.number != shown.study.best.number)
    assert sizes(tab, shown, other.number) == {"curves.png": True}


def sizes(tab: Tab, shown: Shown, number: int) -> dict[str, bool]:
    """Picture -> whether it was drawn in a size that can be read."""
    tab.page.goto(f"{shown.page}/trials?numbers={number}")
    tab.page.wait_for_function(
        "() => document.querySelectorAll('img[src*=\"/artifacts/\"]').length > 0"
    )
    tab.page.wait_for_load_state("networkidle")
    tab.page.wait_for_function(
        "() => [...document.querySelectorAll('img[src*=\"/artifacts/\"]')].every(i => i.complete)"
    )
    found: dict[str, bool] = tab.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('img[src*="/artifacts/"]')]
          .map(image => [image.alt, image.complete && image.naturalWidth > 500]))"""
    )
    return found
