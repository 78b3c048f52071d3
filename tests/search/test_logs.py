"""What is printed never makes its command fail."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from search.logs import show_records

_PRINTS = """
import logging, sys, threading
from search.logs import protect_output, show_records
gone = threading.Event()
protect_output(gone.set)
show_records(print, stamped=True)
log = logging.getLogger("search.somewhere")
if sys.argv[1] == "closed":
    sys.stdin.read()  # until the reader has gone
for n in range(2000):
    print("a line")
    log.warning("trial %d ended", n)
if sys.argv[1] == "descriptors":
    import os
    os.close(1), os.close(2)
    print("nowhere")
    log.warning("nowhere")
if sys.argv[1] == "streams":
    sys.stdout.close(), sys.stderr.close()
    log.warning("nowhere")
sys.exit(7 if gone.is_set() else 0)
"""


@pytest.mark.process
@pytest.mark.parametrize("case", ["full", "descriptors", "streams"])
def test_a_line_that_cannot_be_written_is_dropped(case: str) -> None:
    with Path("/dev/full" if case == "full" else "/dev/null").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", _PRINTS, case], stdout=out, stderr=out, timeout=60, check=False
        )
    assert done.returncode == 0


@pytest.mark.process
def test_a_reader_that_has_gone_is_noticed() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _PRINTS, "closed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdin and process.stderr
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 7
    process.stderr.close()


def test_a_record_has_a_time_and_a_level_and_one_that_cannot_be_shown_is_dropped() -> None:
    lines: list[str] = []
    root = logging.getLogger()
    before, root.handlers[:] = list(root.handlers), []
    try:
        show_records(lines.append, stamped=True)
        log = logging.getLogger("search.somewhere")
        log.info("trial %d ended", 3)
        log.debug("a detail")
        log.info("%d trials", "no number")
        logging.getLogger("other").info("of another package")
    finally:
        root.handlers[:] = before
        logging.getLogger("search").setLevel(logging.NOTSET)
        logging.getLogger("fmnist_hpo").setLevel(logging.NOTSET)
    (line,) = lines
    assert line[10] == "T"
    assert line.endswith("Z INFO trial 3 ended")
