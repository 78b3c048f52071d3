"""Nobody gets in without the password: log-in, cookie, guesses, sessions."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from door_browser import HOST, PASSWORD, Browser, routes
from optuna.storages import BaseStorage

from search.dashboard import application
from search.dashboard.auth import Door
from search.dashboard.sessions import (
    ATTEMPTS_PER_ADDRESS,
    ATTEMPTS_TOTAL,
    SESSION_S,
    WINDOW_S,
    Attempts,
    Sessions,
)
from search.errors import SearchError

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_nothing_but_the_login_page_answers_without_a_session(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=True))
    odd = {"", "/", "/login/", "//login", "/LOGIN", "/login/../api/studies", "/csrf.js", "/nowhere"}
    for path in routes(storage) | odd | {"/dashboard/studies/1", "/static/bundle.js"}:
        for method in METHODS:
            for cookie in ("", "session_8080=", "session_8080=guess", "session_8080"):
                browser.cookie = cookie
                answer = browser.ask(method, path)
                assert answer.status == 401, (method, path, cookie)
                assert "secret-study" not in answer.body.decode()
    assert [study.study_name for study in storage.get_all_studies()] == ["secret-study"]


def test_a_browser_gets_the_login_page_where_it_was_going(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    wanted = "/dashboard/studies/1/trials?numbers=2"
    page = browser.ask("GET", wanted, HTTP_ACCEPT="text/html,*/*;q=0.8")
    assert page.status == 401
    assert f'name="next" value="{wanted}"' in page.body.decode()
    answer = browser.log_in(next=wanted)
    assert (answer.status, answer.headers["location"]) == (303, wanted)
    assert browser.ask("GET", "/dashboard").status == 200
    studies = json.loads(browser.ask("GET", "/api/studies").body)
    assert [study["study_name"] for study in studies["study_summaries"]] == ["secret-study"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted",
    [
        "https://elsewhere.example/",
        "//elsewhere.example",
        "/dashboard\r\nSet-Cookie: a=b",
        "/dashboard.elsewhere.example",
        "/dashboard@elsewhere.example",
        "/dashboard/\\elsewhere",
        "javascript:alert(1)",
        '/dashboard/"><script>',
        "",
    ],
)
def test_a_login_leads_to_the_dashboard_only(storage: BaseStorage, wanted: str) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    assert browser.log_in(next=wanted).headers["location"] == "/dashboard"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    plain = browser.log_in().headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(plain)
    assert "Secure" not in plain
    proxied = browser.log_in(HTTP_X_FORWARDED_PROTO="https").headers["set-cookie"].split("; ")
    assert "Secure" in proxied
    assert plain[0] != proxied[0]  # each log-in has a token of its own


@pytest.mark.slow
@pytest.mark.parametrize(
    "password", ["", "Correct horse battery", PASSWORD + " ", "ü" * 40, "\x00"]
)
def test_a_wrong_password_opens_nothing(storage: BaseStorage, password: str) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    answer = browser.log_in(password)
    assert answer.status == 401
    assert "That password is wrong." in answer.body.decode()
    assert "set-cookie" not in answer.headers


def test_a_password_need_not_be_ascii(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password="Grüße+&=% 🔑", allow_writes=False))
    assert browser.log_in("Grüße+&=% 🔑").status == 303


@pytest.mark.parametrize("password", ["", "1234567"])
def test_a_short_password_is_refused(storage: BaseStorage, password: str) -> None:
    with pytest.raises(SearchError, match=rf"at least 8 characters, got {len(password)}; choose"):
        application(storage, password=password, allow_writes=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [b"password=" + b"x" * 5000, b"a=1&" * 900, b"password=\xff\xfe", b""]
)
def test_a_malformed_form_is_no_login(storage: BaseStorage, body: bytes) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    answer = browser.ask("POST", "/login", body, HTTP_ORIGIN=f"http://{HOST}")
    assert answer.status in (400, 401)
    for length in ("-1", "many"):
        answer = browser.ask(
            "POST", "/login", body, HTTP_ORIGIN=f"http://{HOST}", CONTENT_LENGTH=length
        )
        assert answer.status == 400


def test_another_site_cannot_log_a_browser_in(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    assert browser.log_in(HTTP_ORIGIN="https://elsewhere.example").status == 403
    assert browser.log_in(HTTP_SEC_FETCH_SITE="cross-site").status == 403
    assert browser.cookie == ""


def guarded(storage: BaseStorage, clock: Clock) -> Door:
    import optuna_dashboard

    return Door(
        optuna_dashboard.wsgi(storage),
        password=PASSWORD,
        allow_writes=False,
        sessions=Sessions(clock),
        attempts=Attempts(clock),
    )


def test_guessing_is_slowed_per_address_and_in_total(storage: BaseStorage) -> None:
    clock = Clock()
    app = guarded(storage, clock)
    browser = Browser(app)
    for _ in range(ATTEMPTS_PER_ADDRESS):
        assert browser.log_in("wrong wrong").status == 401
    refused = browser.log_in()  # right, but not looked at
    assert (refused.status, refused.headers["retry-after"]) == (429, f"{WINDOW_S:.0f}")
    assert "Try again in 60 seconds" in refused.body.decode()

    for i in range(ATTEMPTS_TOTAL - ATTEMPTS_PER_ADDRESS):
        assert Browser(app, address=f"10.0.0.{i}").log_in("wrong wrong").status == 401
    assert Browser(app, address="10.0.1.1").log_in().status == 429

    clock.now += WINDOW_S
    assert browser.log_in().status == 303
    for _ in range(ATTEMPTS_PER_ADDRESS + 1):  # a right password costs nothing
        assert browser.log_in().status == 303


def test_parallel_guesses_count_too() -> None:
    attempts = Attempts()
    start = threading.Barrier(16)

    def guess(_: int) -> bool:
        start.wait()
        return attempts.take("10.0.0.1") == 0.0

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(guess, range(16))) == ATTEMPTS_PER_ADDRESS


def test_a_session_ends(storage: BaseStorage) -> None:
    clock = Clock()
    browser = Browser(guarded(storage, clock))
    browser.log_in()
    clock.now += SESSION_S - 1
    assert browser.ask("GET", "/api/studies").status == 200
    clock.now += 1
    assert browser.ask("GET", "/api/studies").status == 401


def test_a_log_out_ends_the_session_on_the_server(storage: BaseStorage) -> None:
    app = application(storage, password=PASSWORD, allow_writes=False)
    browser, other = Browser(app), Browser(app)
    browser.log_in()
    other.log_in()
    assert '<meta name="log-out"' in browser.ask("GET", "/dashboard").body.decode()
    for environ in ({"HTTP_ORIGIN": "https://elsewhere.example"}, {}):
        assert browser.ask("POST", "/logout", **environ).status == 403
    kept = browser.cookie
    answer = browser.ask("POST", "/logout", HTTP_ORIGIN=f"http://{HOST}")
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert "session_8080=; Expires=Thu, 01 Jan 1970" in answer.headers["set-cookie"]
    last = "".join(chr(ord(kept[-1]) ^ bit) for bit in (0, 1, 2, 3))  # same bits after base64
    for cookie in (kept, *(kept[:-1] + char for char in last)):
        browser.cookie = cookie
        assert browser.ask("GET", "/api/studies").status == 401
    assert other.ask("GET", "/api/studies").status == 200
    assert other.ask("GET", "/logout").status == 404


def test_a_forged_session_opens_nothing(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    browser.log_in()
    token = browser.cookie.rpartition("=")[2]
    name, moment, signature = token.split(".")
    foreign = Sessions().open()
    for forged in (
        f"{name}.{moment}A.{signature}",
        f"{name}x.{moment}.{signature}",
        f"{name}.{moment}",
        f"{name}.{moment}.",
        foreign,
        f"{name}.{foreign.partition('.')[2]}",
    ):
        browser.cookie = f"session_8080={forged}"
        assert browser.ask("GET", "/api/studies").status == 401, forged


def test_without_a_password_there_is_nothing_to_log_out_of(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=None, allow_writes=True))
    assert "log-out" not in browser.ask("GET", "/dashboard").body.decode().split("<meta")[1]
    assert browser.ask("POST", "/logout", HTTP_ORIGIN=f"http://{HOST}").status == 403
