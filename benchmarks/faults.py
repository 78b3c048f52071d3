"""Faults that are done to a running study: to its workers, its network, its server, its disk.

Each is a function that returns when the fault is over. One that a machine or a storage does not
allow raises `Unavailable`, with the reason.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa


class Unavailable(Exception):
    """This fault cannot be done here."""


class Server:
    """A connection of its own to the Postgres of a study."""

    def __init__(self, storage: str) -> None:
        url = sa.make_url(storage)
        if url.get_backend_name() != "postgresql":
            raise Unavailable("an SQLite file has no server")
        self.database = url.database
        self._engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=sa.pool.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"options": "-c statement_timeout=0"},  # its own statements are spared
        )

    def execute(self, statement: str) -> list[sa.Row[tuple[object, ...]]]:
        with self._engine.connect() as connection:
            result = connection.execute(sa.text(statement))
            return list(result) if result.returns_rows else []

    @contextlib.contextmanager
    def holding(self, statement: str) -> Iterator[None]:
        """Hold the locks of a statement inside."""
        with self._engine.connect() as connection:
            connection.execute(sa.text(f"BEGIN; {statement}"))
            try:
                yield
            finally:
                connection.execute(sa.text("ROLLBACK"))


def stop_inside_a_transaction(
    storage: str, workers: Callable[[], list[int]], *, for_seconds: float
) -> None:
    """Stop a worker (SIGSTOP) that holds the lock on the row that all workers write to.

    It is made to wait for the lock, stopped, and then gets it.
    """
    server = Server(storage)
    waiting = (
        "SELECT application_name FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        f"AND datname = '{server.database}' AND application_name LIKE 'fmnist-hpo %'"
    )
    victim = None
    with server.holding("SELECT 1 FROM search_study FOR UPDATE"):
        deadline = time.monotonic() + 20
        while victim is None:
            if time.monotonic() > deadline:
                raise Unavailable("no worker came to write")
            pids = {int(str(name).split()[1]) for (name,) in server.execute(waiting)}
            victim = next(iter(pids & set(workers())), None)
            time.sleep(0.02)
        os.kill(victim, signal.SIGSTOP)
    time.sleep(for_seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGCONT)


def statement_timeout(storage: str, *, milliseconds: int, for_seconds: float) -> None:
    """Let the server cancel every statement that takes longer."""
    server = Server(storage)
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{server.database}' AND pid <> pg_backend_pid()"
    )
    server.execute(f"ALTER DATABASE {server.database} SET statement_timeout = {milliseconds}")
    server.execute(others)
    time.sleep(for_seconds)
    server.execute(f"ALTER DATABASE {server.database} RESET statement_timeout")
    server.execute(others)


class Proxy:
    """A TCP proxy before a Postgres, which can lose what it is to pass on.

    Args:
        storage: the URL of the Postgres.
        host: the address to listen at.
    """

    def __init__(self, storage: str, host: str = "127.0.0.1") -> None:
        self._url = sa.make_url(storage)
        if self._url.get_backend_name() != "postgresql":
            raise Unavailable("an SQLite file is reached through no network")
        self._listener = socket.create_server((host, 0))
        self._deaf: set[int] = set()  # pairs whose packets are dropped
        self._frozen = False
        self._pairs: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._number = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of the Postgres by way of this proxy."""
        host, port = self._listener.getsockname()[:2]
        url = self._url.difference_update_query(["host", "port"]).set(host=host, port=port)
        return url.render_as_string(hide_password=False)

    def swallow(self) -> None:
        """Drop everything of the connections that are open, and keep them open."""
        self._deaf |= set(self._pairs)

    def freeze(self) -> None:
        """Drop everything of all connections, and accept new ones without a word."""
        self._frozen = True

    def close(self) -> None:
        self._listener.close()
        for pair in list(self._pairs.values()):
            for end in pair:
                end.close()

    def _connect(self) -> socket.socket:
        directory = self._url.query.get("host")
        if not self._url.host and isinstance(directory, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{directory}/.s.PGSQL.{self._url.port or 5432}")
            return server
        return socket.create_connection((self._url.host or "127.0.0.1", self._url.port or 5432))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            return client.close()
        self._number += 1
        number = self._number
        self._pairs[number] = (client, server)
        other = {client: server, server: client}
        with contextlib.suppress(OSError, ValueError):
            while True:
                for end in select.select([client, server], [], [], 1.0)[0]:
                    data = end.recv(65536)
                    if number in self._deaf or self._frozen:
                        if data:
                            continue
                        time.sleep(1)  # the end of one side is not passed on either
                    elif data:
                        other[end].sendall(data)
                    else:
                        return self._end(number)
        return self._end(number)

    def _end(self, number: int) -> None:
        for end in self._pairs.pop(number, ()):
            end.close()


class Network:
    """A network of its own, behind a cable that can be pulled: what runs in it reaches `host`."""

    host, guest = "10.97.31.1", "10.97.31.2"
    _name = "fmnist-chaos"

    def __init__(self) -> None:
        commands = (
            f"ip netns add {self._name}",
            f"ip link add fmnist-h type veth peer name fmnist-g netns {self._name}",
            f"ip addr add {self.host}/30 dev fmnist-h",
            "ip link set fmnist-h up",
            f"ip netns exec {self._name} ip addr add {self.guest}/30 dev fmnist-g",
            f"ip netns exec {self._name} ip link set fmnist-g up",
        )
        for command in commands:
            try:
                done = subprocess.run(command.split(), capture_output=True, text=True)
            except FileNotFoundError:
                raise Unavailable("there is no program `ip`") from None
            if done.returncode:
                self.close()
                raise Unavailable(f"{command}: {done.stderr.strip()}")

    def inside(self, command: list[str]) -> list[str]:
        """A command as it is run in the network."""
        return ["ip", "netns", "exec", self._name, *command]

    def cut(self) -> None:
        """Pull the cable: nobody is told."""
        subprocess.run(["ip", "link", "set", "fmnist-h", "down"], check=True)

    def close(self) -> None:
        for command in (f"ip netns del {self._name}", "ip link del fmnist-h"):
            subprocess.run(command.split(), capture_output=True)


@contextlib.contextmanager
def small_disk(directory: Path, megabytes: int = 24) -> Iterator[None]:
    """Mount a disk of its own on a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        raise Unavailable("there is no program `mount`") from None
    if done.returncode:
        raise Unavailable(f"cannot mount a disk: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def fill_disk(directory: Path, *, for_seconds: float) -> None:
    """Leave not a byte on the disk of a directory for a while."""
    ballast = directory / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        time.sleep(for_seconds)
    finally:
        ballast.unlink(missing_ok=True)
