"""Where workers' logs lie, and the last line of one, for the one who reads that it ended."""

from pathlib import Path

from search.text import printable

__all__ = ["last_line", "log_folder"]

TAIL_BYTES = 8_192  # of a log that are read for its last line


def log_folder(study: str) -> Path:
    """Where the logs of a study's workers lie, below the folder in which they were started."""
    return Path("runs") / study / "logs"


def last_line(log: Path) -> str:
    """The last line that is not blank, or why there is none; never raises."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    lines = [line for line in text.splitlines() if line.strip()]
    return printable(lines[-1].removeprefix("error: ")) if lines else "it printed nothing"
