"""Processes that a test starts: whatever of them still runs at its end is killed."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Started"]


class Started:
    """Starts Python modules as processes in one folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        """`python -m ...`; its output and its errors are one pipe."""
        process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            cwd=self._folder,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
