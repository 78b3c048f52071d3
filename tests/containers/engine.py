"""A Docker engine of the test's own, and compose before it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["CannotRun", "Engine", "compose_command"]

START_SECONDS = 30.0


class CannotRun(Exception):
    """This machine cannot start an engine; the message says why."""


def compose_command() -> list[str]:
    """Compose as a plugin (2.x) where there is one, else Debian's `docker-compose` (1.29).

    Raises:
        CannotRun: there is neither.
    """
    plugin = ["docker", "compose"]
    if subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0:
        return plugin
    if shutil.which("docker-compose") is None:
        raise CannotRun("there is no compose; install docker-compose")
    return ["docker-compose"]


class Engine:
    """A running dockerd whose data, socket and containers lie in one directory.

    Raises:
        CannotRun: it does not start here.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = directory / "dockerd.log"
        socket = f"unix://{directory / 'socket'}"
        self.environment = {**os.environ, "DOCKER_HOST": socket}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    "--host",
                    socket,
                    f"--data-root={directory / 'data'}",
                    f"--exec-root={directory / 'exec'}",
                    f"--pidfile={directory / 'pid'}",
                    "--bridge=none",  # the name docker0 may be another engine's
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while self._run(["docker", "info"], {}).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                lines = self._log.read_text(errors="replace").splitlines()
                raise CannotRun(f"dockerd does not start: {lines[-1] if lines else 'no output'}")
            time.sleep(0.5)

    def docker(self, *arguments: str | Path) -> str:
        """What a docker command prints; it must succeed."""
        return self.run(["docker", *map(str, arguments)])

    def run(self, command: list[str], environment: Mapping[str, str] | None = None) -> str:
        """What a command prints on its standard output; it must succeed.

        Raises:
            AssertionError: it does not; holds the end of what it printed.
        """
        result = self._run(command, environment or {})
        if result.returncode != 0:
            end = (result.stdout + result.stderr)[-4000:]
            raise AssertionError(f"`{' '.join(command)}` gave {result.returncode}:\n{end}")
        return result.stdout

    def refusal(self, command: list[str], environment: Mapping[str, str]) -> str:
        """All that a command prints which must fail.

        Raises:
            AssertionError: it succeeds.
        """
        result = self._run(command, environment)
        if result.returncode == 0:
            raise AssertionError(f"`{' '.join(command)}` should have failed")
        return result.stdout + result.stderr

    def stop(self) -> None:
        """End the engine, and its containers with it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)
        namespace = self._directory / "exec" / "netns" / "default"  # dockerd leaves it mounted
        if namespace.exists():
            subprocess.run(["umount", str(namespace)], capture_output=True, check=False)

    def _run(
        self, command: list[str], environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
