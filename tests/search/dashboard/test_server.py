"""The dashboard in a process of its own, on a real port."""

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from search.dashboard import serve
from search.errors import SearchError

pytestmark = pytest.mark.slow

_SERVE = """
import sys
import optuna
from search.dashboard import serve
serve(optuna.storages.get_storage(sys.argv[1]), host=sys.argv[2], port=0, password=None,
      allow_writes=False)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield storage
    storage.engine.dispose()


@pytest.mark.parametrize(
    ("host", "sent"),
    [("127.0.0.1", signal.SIGINT), ("127.0.0.1", signal.SIGTERM), ("localhost", signal.SIGINT)],
)
def test_it_says_where_it_is_and_ends_cleanly(
    storage: optuna.storages.RDBStorage, host: str, sent: signal.Signals
) -> None:
    command = [sys.executable, "-c", _SERVE, str(storage.url), host]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith(f"Dashboard: http://{host}:"), line
        assert line.endswith("(read-only; Ctrl-C ends it)\n")
        with urllib.request.urlopen(line.split()[1] + "api/studies") as answer:
            assert answer.read() == b'{"study_summaries": []}'
            assert answer.headers["Server"] is None
        process.send_signal(sent)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "dashboard.example", ""])
def test_a_reachable_address_needs_a_password(
    storage: optuna.storages.RDBStorage, host: str
) -> None:
    with pytest.raises(
        SearchError, match=f"needs a password .* got host {host!r} and none; give one"
    ):
        serve(storage, host=host, password=None, allow_writes=False)


def test_a_taken_port_is_one_line(storage: optuna.storages.RDBStorage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SearchError, match=f"port {port}: .*in use.*; choose another") as error:
            serve(storage, port=port, password=None, allow_writes=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "port", "rule"),
    [
        ("192.0.2.1", 0, "cannot listen on host '192.0.2.1'"),
        ("127.0.0.1", 70000, "port must be from 0 to 65535, got 70000; choose"),
        ("127.0.0.1", -1, "port must be from 0 to 65535, got -1; choose"),
    ],
)
def test_an_impossible_address_is_one_line(
    storage: optuna.storages.RDBStorage, host: str, port: int, rule: str
) -> None:
    with pytest.raises(SearchError, match=rule) as error:
        serve(storage, host=host, port=port, password="long enough", allow_writes=False)
    assert "\n" not in str(error.value)
