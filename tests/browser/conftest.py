"""A study of real trials, the dashboard in a process of its own, and a real Chromium."""

import io
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PASSWORD = "correct horse battery"
SCRIPT = b"""<!DOCTYPE html><title>artifact</title><body>quiet<script>
document.title = "script ran"; fetch("/api/studies");</script></body>"""
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/>
<script>document.documentElement.setAttribute("id", "ran")</script></svg>"""

_SERVE = """
import sys
import optuna
from optuna.artifacts import FileSystemArtifactStore
from search.dashboard import serve
url, folder, password, writes = sys.argv[1:]
serve(optuna.storages.get_storage(url), port=0, password=password or None,
      allow_writes=writes == "writes", artifact_store=FileSystemArtifactStore(folder))
"""


@dataclass(frozen=True)
class Example:
    """A finished study, as the tests know it without the dashboard."""

    url: str
    folder: Path
    study: optuna.Study
    artifacts: dict[str, str]  # file name -> artifact id, all on `best`
    best: optuna.trial.FrozenTrial  # best of those that keep the constraint

    @property
    def page(self) -> str:
        return f"/dashboard/studies/{self.study._study_id}"


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Twelve linear classifiers on scikit-learn's digits, with a constraint and artifacts."""
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.linear_model import SGDClassifier

    images, labels = load_digits(return_X_y=True)
    images = images / 16.0
    folder = tmp_path_factory.mktemp("artifacts")
    url = f"sqlite:///{tmp_path_factory.mktemp('storage') / 'study.db'}"
    store = optuna.artifacts.FileSystemArtifactStore(folder)
    study = optuna.create_study(
        storage=url,
        study_name="digits",
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    picture = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(picture, "PNG")
    contents = {
        "page.html": SCRIPT,
        "drawing.svg": SVG,
        "log.txt": SCRIPT,
        "curve.json": SCRIPT,
        "picture.png": picture.getvalue(),
    }
    artifacts: dict[int, dict[str, str]] = {}

    def objective(trial: optuna.Trial) -> float:
        model = SGDClassifier(
            alpha=trial.suggest_float("alpha", 1e-5, 1.0, log=True),
            loss=trial.suggest_categorical("loss", ["hinge", "log_loss"]),
            eta0=trial.suggest_float("eta0", 1e-3, 1.0, log=True),
            learning_rate="constant",
            random_state=0,
        )
        for epoch in range(1, 5):
            model.partial_fit(images[:1200], labels[:1200], classes=range(10))
            accuracy = float(model.score(images[1200:], labels[1200:]))
            trial.report(accuracy, epoch)
        trial.set_user_attr("curve", [accuracy] * 200)
        artifacts[trial.number] = {}
        for name, content in contents.items():
            path = folder / name
            path.write_bytes(content)
            artifacts[trial.number][name] = optuna.artifacts.upload_artifact(
                artifact_store=store, file_path=str(path), study_or_trial=trial
            )
        # chosen so that the best trial and the best that keeps the constraint differ
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial.set_constraint("regularised", 3e-4 - trial.params["alpha"])
        return accuracy

    study.optimize(objective, n_trials=12)
    feasible = [t for t in study.trials if t.params["alpha"] >= 3e-4]
    best = max(feasible, key=lambda t: t.value or 0.0)
    assert best.value != max(t.value or 0.0 for t in study.trials)
    from search.dashboard import annotate

    annotate(study, metrics=["accuracy"])
    return Example(url, folder, study, artifacts[best.number], best)


Serve = Callable[..., str]


@contextmanager
def running(example: Example, password: str, writes: bool) -> Iterator[str]:
    """A dashboard on a free port of its own; its address."""
    command = [sys.executable, "-c", _SERVE, example.url, str(example.folder), password]
    with subprocess.Popen(
        [*command, "writes" if writes else "reads"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("Dashboard: http"), line
            yield line.split()[1].rstrip("/")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0, "Ctrl-C must end it cleanly"


@pytest.fixture(scope="session")
def serve(example: Example) -> Iterator[Serve]:
    """The address of a dashboard with these options; one for all tests that ask for the same."""
    addresses: dict[tuple[str, bool], str] = {}
    with ExitStack() as stack:

        def address(*, password: str = PASSWORD, writes: bool = False) -> str:
            options = (password, writes)
            if options not in addresses:
                addresses[options] = stack.enter_context(running(example, *options))
            return addresses[options]

        yield address


@pytest.fixture
def address(example: Example) -> Iterator[str]:
    """The address of a dashboard that no other test knows: it may be locked."""
    with running(example, PASSWORD, writes=False) as made:
        yield made


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(
            f"the browser tests need {CHROMIUM}; run: "
            "apt-get install -y --no-install-recommends chromium"
        )
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Tab:
    """A page, and the errors in its console: broken policies, failed requests, exceptions."""

    page: Page
    complaints: list[str]


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    complaints: list[str] = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield Tab(page, complaints)
    context.close()
