"""The dashboard as a person sees it: a real Chromium, a real server, a study of real trials."""

from typing import Any

import optuna
import pytest
from playwright.sync_api import Browser, Page, expect

from search.dashboard.auth import CSRF_HEADER
from search.dashboard.large_studies import MANY_TRIALS
from tests.browser.conftest import PASSWORD, Example, Serve, Tab

pytestmark = pytest.mark.slow


def log_in(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(address)


def plotted(page: Page, element: str) -> list[dict[str, Any]]:
    """The traces of a Plotly figure, once it is drawn."""
    page.wait_for_function("id => document.getElementById(id)?.data?.length > 0", arg=element)
    traces: list[dict[str, Any]] = page.evaluate(
        """id => document.getElementById(id).data.map(trace => ({
          name: trace.name, mode: trace.mode, x: Array.from(trace.x), y: Array.from(trace.y)}))""",
        element,
    )
    return traces


def send(page: Page, method: str, path: str, headers: dict[str, str]) -> int:
    """A request from the page's own origin, past the script that adds the token."""
    status: int = page.evaluate(
        """([method, path, headers]) => new Promise(resolve => {
          const request = new XMLHttpRequest();
          request.open(method, path);
          for (const [name, value] of Object.entries(headers))
            request.setRequestHeader(name, value);
          request.onload = () => resolve(request.status);
          request.send(JSON.stringify({version: 99, body: "overwritten"}));
        })""",
        [method, path, {"Content-Type": "application/json", **headers}],
    )
    return status


def note(example: Example) -> str:
    attributes = example.study._storage.get_study_system_attrs(example.study._study_id)
    return str(attributes["dashboard:note_str:0"])


def test_log_in_and_see_the_best_trial(example: Example, serve: Serve, tab: Tab) -> None:
    page = tab.page
    address = serve() + example.page
    log_in(page, address)
    expect(page.get_by_text(f"Best Trial (number={example.best.number})")).to_be_visible()
    expect(page.get_by_role("heading", name=str(example.best.value))).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    # the log-in page itself was a 401; nothing else was complained about
    assert [text for text in tab.complaints if "401" not in text] == []

    page.goto(f"{address}/trials?numbers={example.best.number}")
    expect(page.get_by_text("Best Trial").first).to_be_visible()


def test_history_importances_and_curves_show_the_studys_numbers(
    example: Example, serve: Serve, tab: Tab
) -> None:
    page, trials = tab.page, example.study.trials
    log_in(page, serve() + example.page)

    history = plotted(page, "plot-history")
    allowed = [t for t in trials if t.params["alpha"] >= 3e-4]
    refused = [t for t in trials if t.params["alpha"] < 3e-4]
    points = [dict(zip(t["x"], t["y"], strict=True)) for t in history if t["mode"] == "markers"]
    assert {t.number: t.value for t in allowed} in points
    assert {t.number: t.value for t in refused} in points
    (line,) = [t for t in history if t["mode"] == "lines" and t["x"]]
    assert line["y"][-1] == example.best.value

    (bars,) = plotted(page, "graph-hyperparameter-importances")
    expected = optuna.importance.get_param_importances(example.study)
    assert dict(zip(bars["y"], bars["x"], strict=True)) == pytest.approx(expected)

    curves = plotted(page, "graph-intermediate-values")
    assert len(curves) == len(trials)
    for trial, curve in zip(trials, curves, strict=True):
        assert curve["name"].startswith(f"trial #{trial.number}")
        assert dict(zip(curve["x"], curve["y"], strict=True)) == trial.intermediate_values
    assert [text for text in tab.complaints if "401" not in text] == []


def test_the_curves_of_a_thousand_trials_are_one_figure(
    example: Example, serve: Serve, tab: Tab
) -> None:
    name = "large"
    study = optuna.create_study(storage=example.url, study_name=name, direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(
            value=i / 2000,
            params={"x": i / 2000},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            intermediate_values={1: i / 4000, 2: i / 2000},
        )
        for i in range(MANY_TRIALS)
    )
    tab.page.goto(f"{serve(password='')}/dashboard/studies/{study._study_id}")
    expect(tab.page.get_by_text(f"Best Trial (number={MANY_TRIALS - 1})")).to_be_visible()
    latest, best = plotted(tab.page, "user-defined-plot:learning-curves")
    shown = [MANY_TRIALS - 1 - i for i in range(40)]  # the latest are the best here
    assert {y for y in latest["y"] if y} == {n / d for n in shown[:20] for d in (2000, 4000)}
    assert {y for y in best["y"] if y} == {n / d for n in shown[20:] for d in (2000, 4000)}
    assert tab.page.locator("#graph-intermediate-values").count() == 0
    assert tab.complaints == []
    optuna.delete_study(storage=example.url, study_name=name)


def test_a_studys_trials_are_asked_for_at_once_and_once(
    example: Example, serve: Serve, tab: Tab
) -> None:
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.goto(serve(password="") + example.page)
    plotted(tab.page, "plot-history")
    trials = [url for url in asked if f"/api/studies/{example.study._study_id}?" in url]
    assert len(trials) == 1
    assert trials[0] == next(url for url in asked if "/api/" in url)  # by the page's head
    assert tab.complaints == []


def test_a_long_attribute_does_not_widen_the_page(example: Example, serve: Serve, tab: Tab) -> None:
    tab.page.goto(f"{serve(password='')}{example.page}/trials?numbers=0")
    attribute = tab.page.get_by_text("curve [").first
    attribute.wait_for()
    box = attribute.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 1400
    assert box["height"] > 40  # on several lines
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 1400


def test_every_page_of_the_dashboard_keeps_the_content_policy(
    example: Example, serve: Serve, tab: Tab
) -> None:
    address = serve(password="", writes=True)
    pages = ["", "/analytics", "/trials", "/trialTable", "/note", "/smartSelection"]
    for path in [example.page + page for page in pages] + [
        "/dashboard",
        f"/dashboard/compare-studies?ids={example.study._study_id}",
    ]:
        tab.page.goto(address + path)
        tab.page.wait_for_load_state("networkidle")
    tab.page.wait_for_selector(".js-plotly-plot")
    assert tab.complaints == []


def test_the_links_of_the_note_lead_to_pages_with_something_on_them(
    example: Example, serve: Serve, tab: Tab
) -> None:
    page, address = tab.page, serve(password="")
    for link, there in (
        ("Plots", "#plot-slice"),
        ("All trials", "text=12 Trials"),
        ("Table and CSV", "a:has-text('Download CSV File')"),
        (f"trial {example.best.number}", f"text=Trial {example.best.number} (trial_id="),
    ):
        page.goto(f"{address}{example.page}/note")
        page.click(f"a:text-is('{link}')")
        page.wait_for_selector(there)


def test_parallel_coordinates_are_drawn(example: Example, serve: Serve, tab: Tab) -> None:
    """The one plot that compiles functions, which the content policy must allow."""
    tab.page.goto(serve(password="") + example.page + "/smartSelection")
    element = "plot-parallel-coordinate"
    tab.page.wait_for_function("id => document.getElementById(id)?.data?.length > 0", arg=element)
    dimensions = tab.page.evaluate(
        "id => document.getElementById(id).data[0].dimensions.map(d => Array.from(d.values))",
        element,
    )
    assert any(example.best.value in values for values in dimensions)
    assert tab.complaints == []


def test_an_artifacts_picture_is_shown(example: Example, serve: Serve, tab: Tab) -> None:
    page, address = tab.page, serve()
    log_in(page, f"{address}{example.page}/trials?numbers={example.best.number}")
    source = f"img[src$='{example.artifacts['picture.png']}']"
    page.wait_for_function("s => document.querySelector(s)?.naturalWidth > 0", arg=source)
    size = page.evaluate(
        "s => [document.querySelector(s).naturalWidth, document.querySelector(s).naturalHeight]",
        source,
    )
    assert size == [8, 6]


@pytest.mark.parametrize("name", ["page.html", "drawing.svg"])
def test_an_artifact_with_a_script_is_downloaded(
    example: Example, serve: Serve, tab: Tab, name: str
) -> None:
    page, address = tab.page, serve(password="")
    page.goto(f"{address}/dashboard")
    path = f"/artifacts/{example.study._study_id}/{example.best._trial_id}"
    with page.expect_download() as started:
        page.evaluate("url => { location.href = url }", f"{path}/{example.artifacts[name]}")
    assert started.value.path().read_bytes() == (example.folder / name).read_bytes()
    assert page.url.startswith(f"{address}/dashboard")


@pytest.mark.parametrize("name", ["log.txt", "curve.json"])
def test_a_script_in_a_harmless_type_does_not_run(
    example: Example, serve: Serve, tab: Tab, name: str
) -> None:
    page, address = tab.page, serve(password="")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    path = f"/artifacts/{example.study._study_id}/{example.best._trial_id}"
    page.goto(f"{address}{path}/{example.artifacts[name]}")
    page.wait_for_load_state("networkidle")
    assert "script ran" in page.locator("pre").inner_text()  # its text, not its effect
    assert page.title() != "script ran"
    assert page.evaluate("self.origin") == "null"  # sandboxed: not the dashboard's origin
    assert not [url for url in asked if "/api/" in url]


def test_a_read_only_dashboard_refuses_writes(example: Example, serve: Serve, tab: Tab) -> None:
    page, before = tab.page, note(example)
    log_in(page, serve() + example.page)
    api = f"/api/studies/{example.study._study_id}"
    assert send(page, "PUT", f"{api}/note", {}) == 403
    assert send(page, "DELETE", api, {}) == 403
    assert note(example) == before
    assert example.study.study_name in optuna.get_all_study_names(example.url)


WRITES = ["AddBoxIcon", "DeleteIcon", "EditIcon", "UploadFileIcon"]
RENAME = "DriveFileRenameOutlineIcon"


@pytest.mark.parametrize("writes", [False, True])
def test_buttons_that_would_be_refused_are_not_shown(
    example: Example, serve: Serve, tab: Tab, writes: bool
) -> None:
    page, address = tab.page, serve(password="", writes=writes)
    for path, button in (
        ("/dashboard", "AddBoxIcon"),
        ("/dashboard", "DeleteIcon"),
        (f"{example.page}/note", "EditIcon"),
        (f"{example.page}/trials?numbers=0", "EditIcon"),
        (example.page, "UploadFileIcon"),
    ):
        page.goto(address + path)
        icon = page.get_by_test_id(button).first
        icon.wait_for(state="attached")
        assert icon.is_visible() is writes, (path, button)
        for other in [RENAME] if writes else [*WRITES, RENAME]:
            assert not any(one.is_visible() for one in page.get_by_test_id(other).all())
    assert tab.complaints == []


@pytest.mark.parametrize("writes", [False, True])
def test_a_log_out_leads_to_the_log_in(
    example: Example, serve: Serve, tab: Tab, writes: bool
) -> None:
    page, address = tab.page, serve(writes=writes)
    log_in(page, address + example.page)
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{address}/login")
    page.goto(address + example.page)
    expect(page.get_by_label("Password")).to_be_visible()
    assert [text for text in tab.complaints if "401" not in text] == []


def test_a_write_with_a_wrong_token_is_refused(example: Example, serve: Serve, tab: Tab) -> None:
    page, before = tab.page, note(example)
    log_in(page, serve(writes=True) + example.page)
    path = f"/api/studies/{example.study._study_id}/note"
    token = page.locator("meta[name=csrf-token]").get_attribute("content")
    assert token is not None
    for headers in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: "0" * len(token)}):
        assert send(page, "PUT", path, headers) == 403
    assert note(example) == before
    # 409: past the door, refused by the dashboard for its version number
    assert send(page, "PUT", path, {CSRF_HEADER: token}) == 409


def test_a_note_is_written_through_the_page(example: Example, serve: Serve, tab: Tab) -> None:
    page = tab.page
    log_in(page, f"{serve(writes=True)}{example.page}/trials?numbers=0")
    page.locator("button:has([data-testid=EditIcon])").first.click()
    page.locator("textarea").first.fill("Seen by a person.")
    with page.expect_response(lambda answer: answer.request.method == "PUT") as answer:
        page.get_by_role("button", name="Save").click()
    assert answer.value.status == 204
    trial = example.study.trials[0]
    attributes = example.study._storage.get_study_system_attrs(example.study._study_id)
    assert attributes[f"dashboard:{trial._trial_id}:note_str:0"] == "Seen by a person."


def test_a_wrong_password_is_said_and_counted(example: Example, address: str, tab: Tab) -> None:
    page = tab.page
    page.goto(address + example.page)
    for _ in range(5):
        page.get_by_label("Password").fill("wrong wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("That password is wrong.")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("Too many attempts. Try again in")


@pytest.mark.parametrize("width", [320, 1400])
def test_the_login_page_suits_the_screen(serve: Serve, chromium: Browser, width: int) -> None:
    address, seen = serve(), {}
    for scheme in ("light", "dark"):
        with chromium.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 640},
        ) as context:
            page = context.new_page()
            complaints: list[str] = []
            page.on("console", lambda message, c=complaints: c.append(message.text))
            page.goto(f"{address}/login")
            expect(page.get_by_label("Password")).to_be_focused()
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate("document.documentElement.scrollHeight") == 640
            style = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
            seen[scheme] = page.locator("body").evaluate(style)
            assert complaints == []
    assert seen["light"][0] != seen["light"][1] != seen["dark"][1] != seen["dark"][0]
