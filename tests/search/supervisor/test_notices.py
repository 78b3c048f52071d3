"""Notices: what is posted, to a server that fails, is slow, or is away."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from toy import toy_spec

import search
from search.errors import SpecError, StudyHalted
from search.spec import parse_spec
from search.supervisor import notices, watchers
from search.supervisor import run as supervisor
from search.supervisor.launchers import Exit
from search.worker.worker import work

NOTIFY = '[notify]\nurl = "env:HOOK"\non = ["finished", "halted", "best"]'


class Hook:
    """A server on loopback that answers with the given codes, then with 200."""

    def __init__(self, codes=()):
        self.codes, self.got = list(codes), []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = hook.codes.pop(0) if hook.codes else 200
                if code == 200:
                    hook.got.append(json.loads(body, parse_constant=pytest.fail))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook(monkeypatch):
    made = Hook()
    monkeypatch.setenv("HOOK", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "annotate", lambda study: None)
    monkeypatch.setattr(notices, "PAUSES", (0.01, 0.01))
    caplog.set_level("INFO", logger="search")


class InProcess:
    """A launcher whose one worker runs in this process, at the first look."""

    where, survives = "this process", False

    def __init__(self, study):
        self.study, self.left = study, False

    def start(self, count):
        pass

    def poll(self):
        if self.left:
            return []
        self.left = True
        with contextlib.suppress(StudyHalted):
            work(
                search.open("toy", storage=self.study.storage.address),
                name="w",
                stop=threading.Event(),
            )
        return [Exit(name="w", how="by itself", code=0, over=True)]

    def counts(self):
        return 0, 0

    def gone(self, names):
        return []

    def end(self, name):
        pass

    def stop(self):
        return []


class Unseen:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def update(self, status):
        pass


def run(study):
    return supervisor.run(study, InProcess(study), workers=1, progress=Unseen())


def test_the_best_and_the_end_are_posted(make_study, hook):
    study = make_study("toy:Improving", trials=3, extra=NOTIFY)
    hook.codes = [500, 503]
    run(study)
    assert [one["event"] for one in hook.got] == ["best", "finished"]
    best, finished = hook.got
    assert best["best"] == {
        "trial": study.best.number, "name": None, "params": study.best.params,
        "metrics": {"value": study.best.value},
    }  # fmt: skip
    assert (finished["state"], finished["ended"], finished["halted"]) == ("finished", 3, None)
    assert finished["id"] == f"{study.uid}:finished:3"
    hook.got.clear()
    run(study)  # it is finished before: no news
    assert hook.got == []


class Asked(InProcess):
    """A run that is asked to stop once its trials have ended; what was logged when it stops."""

    def __init__(self, study, caplog):
        super().__init__(study)
        self.asked, self.caplog, self.logged = threading.Event(), caplog, []

    def poll(self):
        self.asked.set()
        return super().poll()

    def stop(self):
        self.logged.append(self.caplog.text)
        return []


@pytest.mark.slow
def test_whoever_is_asked_to_stop_waits_for_nobody(make_study, monkeypatch, caplog):
    monkeypatch.setattr(notices, "ANSWER_SECONDS", 600)
    monkeypatch.setattr(notices, "CLOSE_SECONDS", 600)
    monkeypatch.setattr(watchers, "ASKED_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes a request, and no more
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        refuses = threading.Timer(20, silent.close)  # an end, should the run wait for an answer
        refuses.start()
        study = make_study("toy:Improving", trials=2, extra=NOTIFY)
        launcher = Asked(study, caplog)
        supervisor.run(study, launcher, workers=1, progress=Unseen(), asked=launcher.asked)
        refuses.cancel()
    assert "the run ended before a notice was delivered" in caplog.text
    assert "notice" not in launcher.logged[0]  # the workers are stopped first


@pytest.mark.slow
def test_a_halt_is_posted(make_study, hook):
    study = make_study("toy:Failing", trials=5, extra=f"{NOTIFY}\n[fixed]\nhow = 'error'")
    with pytest.raises(StudyHalted):
        run(study)
    (halted,) = hook.got
    assert (halted["event"], halted["state"]) == ("halted", "halted")
    assert halted["halted"].startswith("ValueError at toy.py:")


@pytest.mark.parametrize("codes", [[500] * 9, [302] * 9])
def test_a_server_that_refuses_costs_a_line_without_the_url(make_study, hook, caplog, codes):
    study = make_study("toy:Improving", trials=2, extra=NOTIFY)
    hook.codes = codes
    assert run(study).done
    assert hook.got == []
    assert f"was not delivered after 3 attempts: the server answered {codes[0]}" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://127.0.0.1:9/secret-token", "Connection refused"),
        ("http://[secret-token", "was not delivered"),
        ("secret-token", "the environment variable HOOK holds no http or https URL"),
        (None, "the environment variable HOOK holds no http or https URL"),
    ],
)
def test_no_server_costs_a_line_without_the_url(make_study, monkeypatch, caplog, url, line):
    if url is None:
        monkeypatch.delenv("HOOK", raising=False)
    else:
        monkeypatch.setenv("HOOK", url)
    study = make_study("toy:Improving", trials=2, extra=NOTIFY)
    assert run(study).done
    assert line in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('url = "https://hooks.example/secret-token"', "url names an environment variable, such"),
        (
            'url = "env:HOOK"\non = ["begun"]',
            "on lists some of best, finished, halted, got .'begun",
        ),
        ("on = []", "url is missing"),
    ],
)
def test_what_cannot_be_a_notice_is_refused(table, message):
    with pytest.raises(SpecError, match=message) as caught:
        parse_spec(toy_spec(extra=f"[notify]\n{table}"), where="f.toml")
    assert "secret-token" not in str(caught.value)
