"""The report of real studies in a real Chromium: offline, complete, light and dark."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from slices import write_slice

import search
from fmnist_hpo.report.write import write_report
from fmnist_hpo.results.measurement import measure
from fmnist_hpo.results.places import bundle_path
from fmnist_hpo.results.winner import export_trial
from search.study import Study
from search.worker.worker import work

pytestmark = pytest.mark.slow

HEAD = """
problem = "fmnist_hpo.problem:FashionProblem"
metric = "val_accuracy"
direction = "maximize"
"""
SEARCHED = """
name = "searched"
[budget]
trials = 14
[sampler]
name = "tpe"
n_startup_trials = 4
[pruner]
name = "median"
n_startup_trials = 2
[control]
trials = 4
[audit]
fraction = 0.5
[data]
dir = "data"
[fixed]
family = "ann"
epochs = 3
batch_size = 64
[space]
layers = { int = [1, 2] }
hidden_units = { int = [16, 64], log = true, for_each = "layers" }
learning_rate = { float = [1e-4, 1e-1], log = true }
activation = { choice = ["relu", "gelu"] }
"""
ABLATION = """
name = "ablation"
[data]
dir = "data"
[fixed]
family = "ann"
epochs = 3
batch_size = 64
""" + "".join(
    f'[[trials]]\nname = "{name}"\nparams = {{ batch_norm = {norm}, dropout = {rate} }}\n'
    for name, norm, rate in (("neither", "false", 0.0), ("batch-norm", "true", 0.0),
                             ("dropout", "false", 0.2), ("both", "true", 0.2))
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    path: Path
    studies: tuple[Study, ...]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """Of a search, exported and measured, and of an ablation that is neither."""
    folder = tmp_path_factory.mktemp("report")
    write_slice(folder / "data")
    with contextlib.chdir(folder):
        studies = []
        for text in (SEARCHED, ABLATION):
            study = search.create(HEAD + text)
            work(study, name="worker", stop=threading.Event())
            studies.append(study)
        bundle = export_trial(studies[0], None, bundle_path(studies[0]), refit=False)
        measure(studies[0], bundle, again=False)
        yield Report(write_report(studies, folder / "out"), tuple(studies))
        for study in studies:
            study.storage.close()


FIGURES = {
    "models-comparison",
    "models-overfitting",
    *(f"searched-{name}" for name in ("classes", "confusion", "reliability", "samples", "history",
      "curves", "timeline", "regret", "agreement", "importances", "slices", "parallel")),
    *(f"ablation-{name}" for name in ("history", "named", "curves", "timeline")),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    page: Page
    complaints: list[str]
    requests: list[str]


@pytest.fixture(params=["light", "dark"])
def seen(report: Report, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Seen]:
    context = chromium.new_context(color_scheme=request.param, offline=True)
    page = context.new_page()
    opened = Seen(page, [], [])
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("request", lambda asked: opened.requests.append(asked.url))
    page.goto(report.path.as_uri())
    yield opened
    context.close()


def test_the_page_is_whole_and_asks_the_network_for_nothing(report: Report, seen: Seen) -> None:
    assert report.path.stat().st_size < 5_000_000
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [report.path.as_uri()]
    names = set(seen.page.eval_on_selector_all("figure", "all => all.map(one => one.id)"))
    audited = any("audit" in trial.user_attrs for trial in report.studies[0].trials)
    assert names == FIGURES | ({"searched-audit"} if audited else set())
    for name in names:
        box = seen.page.locator(f"#{name} svg, #{name} img").bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 80
    ids = seen.page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_a_phone_figures_keep_a_legible_size_and_are_scrolled(
    report: Report, chromium: Browser
) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(report.path.as_uri())
    widths = page.eval_on_selector_all(
        "figure svg, figure img", "all => all.map(one => one.getBoundingClientRect().width)"
    )
    assert len(widths) >= len(FIGURES)
    assert min(widths) >= 36 * 16
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_captions_are_legible_and_a_phone_scrolls_within_figures_only(
    report: Report, chromium: Browser, scheme: str
) -> None:
    """WCAG AA asks for a contrast of 4.5; the page itself never scrolls sideways."""
    for width in (390, 800, 1400):
        with chromium.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 800},
        ) as context:
            page = context.new_page()
            page.goto(report.path.as_uri())
            paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            words = page.eval_on_selector_all(
                "figcaption, .sub, p, td, th, li",
                "all => [...new Set(all.map(one => getComputedStyle(one).color))]",
            )
            assert len(words) >= 2
            assert min(contrast(luminance(colour), paper) for colour in words) >= 4.5
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_every_figure_stands_out_from_the_page(seen: Seen) -> None:
    """Text and marks of every drawing, in the colours the browser gave them, against the page."""
    paper = luminance(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    for name in FIGURES - {"searched-samples"}:
        colours = seen.page.eval_on_selector_all(
            f"#{name} svg text, #{name} svg path",
            """all => [...new Set(all.flatMap(one => {
              const style = getComputedStyle(one);
              // A cell's number is black or white, against its cell and not against the page.
              const number = one.tagName == "text" && /^\\d+$/.test(one.textContent.trim());
              if (number && one.closest("figure").id.endsWith("confusion"))
                  return [];
              return [one.tagName == "text" ? style.fill : style.stroke];
            }))].filter(colour => colour.startsWith("rgb"))""",
        )
        assert colours, name
        for colour in colours:
            assert contrast(luminance(colour), paper) >= 3, (name, colour)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)`."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_page_says_what_the_storage_says(report: Report, seen: Seen) -> None:
    text = seen.page.inner_text("body")
    study = report.studies[0]
    assert study.best.value is not None
    assert (
        f"trial {study.best.number} with validation accuracy {100 * study.best.value:.2f} %" in text
    )
    assert "measured once" in text
    assert "random search (" in text
    assert "the test set is still sealed" in text  # of the ablation
    assert "Control: the study has none" not in text  # nor has the ablation a sampler
    assert f"fmnist-hpo reproduce {study.name}" in text


def test_its_figures_lie_beside_it_as_png_and_svg(report: Report) -> None:
    folder = report.path.parent / "figures"
    drawn = FIGURES - {"searched-samples"}
    files = {path.name for path in folder.iterdir()}
    assert {f"{name}.{kind}" for name, kind in itertools.product(drawn, ("png", "svg"))} <= files
    assert (folder / "searched-samples.png").read_bytes().startswith(b"\x89PNG")
    for name in drawn:
        assert "<text" in (folder / f"{name}.svg").read_text()
