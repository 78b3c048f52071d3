"""The stack of docker-compose.yml under the test's study, and what the database says about it."""

import http.cookiejar
import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import Engine, compose_command

__all__ = ["Busy", "Stack", "until"]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
STUDY = "tiny"


@dataclass(frozen=True, kw_only=True)
class Busy:
    """A worker with a trial in hand."""

    container: str  # the first twelve digits of its id
    lineage: int
    step: int  # the last one reported


def until(what: str, seconds: float, ready: Callable[[], bool]) -> None:
    """Wait until `ready` is true.

    Raises:
        AssertionError: it did not come to be so in that time.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.3)


class Stack:
    """Compose with our file and the test's override.

    Args:
        passwords: a directory in which the two files of passwords are, or are to be.
    """

    def __init__(self, engine: Engine, passwords: Path) -> None:
        self.engine = engine
        self.passwords = passwords
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [
            *compose_command(),
            "--project-name=fmnist-hpo-test",
            f"--file={ROOT / 'docker-compose.yml'}",
            f"--file={HERE / 'override.yml'}",
        ]

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "STUDY": STUDY,
            "TEST_PASSWORDS": str(self.passwords),
            "DASHBOARD_PORT": str(self.port),
        }

    def compose(self, *arguments: str) -> str:
        """What a compose command prints; it must succeed."""
        return self.engine.run([*self._command, *arguments], self._environment)

    def refusal(self, *arguments: str) -> str:
        """All that a compose command prints which must fail."""
        return self.engine.refusal([*self._command, *arguments], self._environment)

    def write_passwords(self) -> None:
        """Choose them as the README tells its readers; one has what a .pgpass must escape."""
        self.passwords.mkdir(mode=0o700)
        for name, start in (("postgres_password", r"a:b\c "), ("dashboard_password", "")):
            file = self.passwords / name
            file.write_text(f"{start}{secrets.token_hex(24)}\n")
            file.chmod(0o644)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, running or not."""
        return self.compose("ps", "--all", "--quiet", service).split()

    def inspect(self, container: str) -> dict[str, object]:
        """What the engine knows of a container."""
        found: dict[str, object] = json.loads(self.engine.docker("inspect", container))[0]
        return found

    def state(self, container: str, key: str) -> object:
        """Of a container's State: "Running", "ExitCode", "Pid" and more."""
        state = self.inspect(container)["State"]
        assert isinstance(state, dict)
        return state[key]

    def crash(self, container: str) -> None:
        """Kill its process as the kernel would, from outside: `docker kill` counts as a wish."""
        pid = self.state(container, "Pid")
        assert isinstance(pid, int) and pid > 1
        os.kill(pid, signal.SIGKILL)

    def query(self, statement: str) -> list[list[str]]:
        """Rows of a query, asked in the database's own container."""
        database = self.containers("database")[0]
        printed = self.engine.docker(
            "exec", database, "psql", "--host=/tmp", "--username=fmnist", "--dbname=fmnist",
            "--no-align", "--tuples-only", "--field-separator=|", f"--command={statement}",
        )  # fmt: skip
        return [line.split("|") for line in printed.splitlines()]

    def busy(self) -> list[Busy]:
        """Workers that have reported at least one step of the trial they hold."""
        rows = self.query(
            "select split_part(worker, '-', 1), lineage, max(step) from search_lineage "
            "join trials on number = trial join trial_intermediate_values using (trial_id) "
            "where done = 0 and worker is not null and state = 'RUNNING' group by 1, 2"
        )
        return [Busy(container=c, lineage=int(n), step=int(step)) for c, n, step in rows]

    def log_in(self) -> list[str]:
        """Log into the dashboard over loopback; the names of the studies that it shows.

        Raises:
            AssertionError: it shows them without the password, or not with it.
        """
        url = f"http://127.0.0.1:{self.port}"
        browser = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )
        try:
            browser.open(f"{url}/api/studies", timeout=10)
        except urllib.error.HTTPError as error:
            assert error.code == 401, f"without a password the dashboard answered {error.code}"
        else:
            raise AssertionError("the dashboard shows its studies to anybody")
        password = (self.passwords / "dashboard_password").read_text().strip()
        form = urllib.parse.urlencode({"password": password}).encode()
        request = urllib.request.Request(f"{url}/login", form, headers={"Origin": url})
        browser.open(request, timeout=10).close()
        with browser.open(f"{url}/api/studies", timeout=10) as answer:
            return [study["study_name"] for study in json.load(answer)["study_summaries"]]

    def check_curves(self, steps: int) -> int:
        """Compare every complete trial's curve with the map computed here; how many there are.

        Raises:
            AssertionError: a curve has other steps or other values.
        """
        sys.path.insert(0, str(HERE / "problem"))
        from tiny import following

        starts = {
            trial: float(x)
            for trial, x in self.query(
                "select trial_id, param_value from trial_params join trials using (trial_id) "
                "where state = 'COMPLETE' and param_name = 'x'"
            )
        }
        curves: dict[str, dict[int, float]] = {trial: {} for trial in starts}
        for trial, step, value in self.query(
            "select trial_id, step, intermediate_value from trial_intermediate_values "
            "join trials using (trial_id) where state = 'COMPLETE'"
        ):
            curves[trial][int(step)] = float(value)
        for trial, start in starts.items():
            x = start
            expected: dict[int, float] = {}
            for number in range(1, steps + 1):
                x = following(x)
                expected[number] = x
            assert curves[trial] == expected, f"trial {trial}: {curves[trial]}, not {expected}"
        return len(starts)
