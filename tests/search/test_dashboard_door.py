"""Every rule of the door, spoken to as a WSGI server does."""

import io
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage

from search.dashboard import application
from search.dashboard.door import CSRF_HEADER, Door, is_loopback
from search.dashboard.session import (
    ATTEMPTS_PER_ADDRESS,
    ATTEMPTS_TOTAL,
    SESSION_S,
    WINDOW_S,
    Attempts,
    Sessions,
)
from search.errors import SearchError

PASSWORD = "correct horse battery"
HOST = "localhost:8080"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
WRITES = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["reason"])


@dataclass
class Browser:
    """What a browser does for the door: one cookie, and the origin of each request."""

    app: Any
    address: str = "127.0.0.1"
    cookie: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes = b"", **environ: str) -> Answer:
        path, _, query = path.partition("?")
        request: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.address,
            "HTTP_HOST": HOST,
            "HTTP_COOKIE": self.cookie,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            **self.environ,
            **environ,
        }
        started: list[Any] = []
        chunks = self.app(request, lambda status, headers: started.extend([status, headers]))
        content = b"".join(chunks)
        getattr(chunks, "close", lambda: None)()
        status, headers = started
        names = [name.lower() for name, _ in headers]
        assert len(names) == len(set(names)), f"a header is sent twice: {headers}"
        return Answer(int(status.split()[0]), {n.lower(): v for n, v in headers}, content)

    def log_in(self, password: str = PASSWORD, next: str = "", **environ: str) -> Answer:
        form = urlencode({"password": password, "next": next}).encode()
        environ = {"HTTP_ORIGIN": f"http://{HOST}", **environ}
        answer = self.ask("POST", "/login", form, **environ)
        if "set-cookie" in answer.headers:
            self.cookie = "other=1; " + answer.headers["set-cookie"].partition(";")[0]
        return answer

    def token(self) -> str:
        page = self.ask("GET", "/dashboard").body.decode()
        found = re.search(r'<meta name="csrf-token" content="([^"]+)">', page)
        assert found is not None
        return found[1]

    def write(self, method: str, path: str, content: Any, token: str, **environ: str) -> Answer:
        sent = {
            "CONTENT_TYPE": "application/json",
            "HTTP_" + CSRF_HEADER.upper().replace("-", "_"): token,
            "HTTP_ORIGIN": f"http://{HOST}",
            **environ,
        }
        return self.ask(method, path, json.dumps(content).encode(), **sent)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[BaseStorage]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name="secret-study")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    yield storage
    storage.engine.dispose()


def routes(storage: BaseStorage) -> set[str]:
    """A path for each route that optuna-dashboard registers."""
    import optuna_dashboard

    app: Any = optuna_dashboard.wsgi(storage, artifact_store=FileSystemArtifactStore("."))
    paths = {
        re.sub(r"<:re:.*>", "", re.sub(r"<(\w+)(:[^<>]*)?>", "1", route.rule))
        for route in app.routes
    }
    assert len(paths) > 20, paths
    return paths


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


def test_read_only_refuses_every_write(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=False))
    browser.log_in()
    for path in routes(storage) | {"/csrf.js", "/nowhere"}:
        for method in WRITES:
            answer = browser.ask(method, path, HTTP_SEC_FETCH_SITE="same-origin")
            assert answer.status == 403, (method, path)
            assert "read-only; start it with --allow-writes" in answer.reason
    assert [study.study_name for study in storage.get_all_studies()] == ["secret-study"]
    assert b"csrf-token" not in browser.ask("GET", "/dashboard").body


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_a_write_needs_origin_and_token(storage: BaseStorage, password: str | None) -> None:
    app = application(storage, password=password, allow_writes=True)
    browser, other = Browser(app), Browser(application(storage, password=None, allow_writes=True))
    if password is not None:
        browser.log_in()
    token, note = browser.token(), {"version": 1, "body": "mine"}
    path = "/api/studies/1/note"

    for wrong in ("", token[:-1], token[:-1] + "é", other.token()):
        answer = browser.write("PUT", path, note, wrong)
        assert (answer.status, CSRF_HEADER in answer.reason) == (403, True)
    foreign: list[dict[str, str]] = [
        {"HTTP_ORIGIN": "https://elsewhere.example"},
        {"HTTP_ORIGIN": "http://localhost:9999"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": ""},
        {"HTTP_ORIGIN": "http://[broken"},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
        {"HTTP_SEC_FETCH_SITE": "none"},
    ]
    for environ in foreign:
        answer = browser.write("PUT", path, note, token, **environ)
        assert (answer.status, "own page" in answer.reason) == (403, True), environ
    assert "dashboard:note_ver" not in storage.get_study_system_attrs(1)

    assert browser.write("PUT", path, note, token).status == 204
    assert storage.get_study_system_attrs(1)["dashboard:note_str:0"] == "mine"
    note = {"version": 2, "body": "again"}
    fetched = {"HTTP_ORIGIN": "", "HTTP_SEC_FETCH_SITE": "same-origin"}
    assert browser.write("PUT", path, note, token, **fetched).status == 204


def test_a_token_is_good_in_its_own_session_only(storage: BaseStorage) -> None:
    app = application(storage, password=PASSWORD, allow_writes=True)
    one, two = Browser(app), Browser(app)
    one.log_in()
    two.log_in()
    note = {"version": 1, "body": "mine"}
    assert two.write("PUT", "/api/studies/1/note", note, one.token()).status == 403
    assert two.write("PUT", "/api/studies/1/note", note, two.token()).status == 204


def test_renaming_is_refused_as_it_gives_trials_new_ids(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=None, allow_writes=True))
    for path in ("/api/studies/1/rename", "/api/studies/1/rename/"):
        answer = browser.write("POST", path, {"study_name": "new"}, browser.token())
        assert (answer.status, "new ids" in answer.reason) == (403, True)
    assert [study.study_name for study in storage.get_all_studies()] == ["secret-study"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8080", 200),
        ("127.8.9.1", 200),
        ("[::1]:8080", 200),
        ("rebound.example:8080", 403),
        ("localhost.rebound.example", 403),
        ("127.0.0.1.rebound.example", 403),
        ("192.168.0.7:8080", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_without_a_password_only_loopback_names_are_answered(
    storage: BaseStorage, host: str, status: int
) -> None:
    browser = Browser(application(storage, password=None, allow_writes=False))
    for path in ("/api/studies", "/dashboard"):
        assert browser.ask("GET", path, HTTP_HOST=host).status == status


def test_loopback_is_told_by_the_address() -> None:
    loopback = ["localhost", "127.0.0.1", "127.1.2.3", "::1"]
    reachable = ["0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org", "*"]
    assert [host for host in loopback + reachable if is_loopback(host)] == loopback


def test_every_answer_carries_the_security_headers(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=PASSWORD, allow_writes=True))
    stranger = Browser(browser.app)
    browser.log_in()
    answers = [browser.ask("GET", path) for path in sorted(routes(storage))]
    answers += [stranger.ask("GET", "/dashboard"), stranger.ask("GET", "/login")]
    answers += [stranger.log_in("wrong wrong"), browser.ask("DELETE", "/api/studies/1")]
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert "camera=()" in headers["permissions-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "'unsafe-inline'" not in headers["content-security-policy"].split("style-src")[0]
        assert not [name for name in headers if name.startswith("access-control-")]
        assert headers["cache-control"] in ("no-store", "private, no-cache")
    assert (
        browser.ask("GET", "/api/studies").headers["content-security-policy"].startswith("sandbox;")
    )


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("picture.png", "inline"),
        ("curve.json", "inline"),
        ("log.txt", "inline"),
        ("page.html", "attachment"),
        ("drawing.svg", "attachment"),
        ("page.xhtml", "attachment"),
        ("code.js", "attachment"),
        ("paper.pdf", "attachment"),
        ("unknown.zzz", "attachment"),
    ],
)
def test_artifacts_are_sandboxed(
    storage: BaseStorage, tmp_path: Path, name: str, disposition: str
) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    store = FileSystemArtifactStore(folder)
    (tmp_path / name).write_bytes(b"<script>alert(1)</script>")
    study = optuna.load_study(study_name="secret-study", storage=storage)
    artifact = optuna.artifacts.upload_artifact(
        artifact_store=store, file_path=str(tmp_path / name), study_or_trial=study
    )
    app = application(storage, password=None, allow_writes=False, artifact_store=store)
    answer = Browser(app).ask("GET", f"/artifacts/1/{artifact}")
    assert (answer.status, answer.body) == (200, b"<script>alert(1)</script>")
    assert answer.headers["content-disposition"] == disposition
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_static_files_need_no_accept_encoding(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=None, allow_writes=False))
    plain = browser.ask("GET", "/static/bundle.js")
    packed = browser.ask("GET", "/static/bundle.js", HTTP_ACCEPT_ENCODING="gzip")
    assert (plain.status, packed.status) == (200, 200)
    assert packed.headers["content-encoding"] == "gzip"
    import gzip

    assert gzip.decompress(packed.body) == plain.body
    assert browser.ask("GET", "/favicon.ico").status == 200


def test_a_page_with_a_token_is_never_confirmed_from_a_cache(storage: BaseStorage) -> None:
    browser = Browser(application(storage, password=None, allow_writes=True))
    answer = browser.ask(
        "GET",
        "/dashboard",
        HTTP_IF_MODIFIED_SINCE="Fri, 31 Dec 2100 00:00:00 GMT",
        HTTP_RANGE="0-9",
    )
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("password", ["", "1234567"])
def test_a_short_password_is_refused(storage: BaseStorage, password: str) -> None:
    with pytest.raises(SearchError, match=rf"at least 8 characters, got {len(password)}; choose"):
        application(storage, password=password, allow_writes=False)
