"""What the door lets through: writes, hosts, headers, artifacts, static files."""

import gzip
from pathlib import Path

import optuna
import pytest
from door_browser import PASSWORD, Browser, routes
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage

from search.dashboard import application
from search.dashboard.auth import CSRF_HEADER, is_loopback

WRITES = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"]


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


@pytest.mark.slow
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


@pytest.mark.slow
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
