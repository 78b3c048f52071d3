"""The supervisor: what it says of a study that cannot go on."""

import time
from pathlib import Path

import pytest

from search import service
from search.errors import StudyHalted


class _Quiet:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def update(self, status):
        pass

    def say(self, line):
        pass


def test_a_halt_that_a_worker_is_the_first_to_tell_keeps_its_traceback(
    make_study, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "problems"))
    space = 'how = { choice = ["error"] }\nx = { float = [0, 1] }'
    study = make_study("toy:Failing", trials=20, space=space)
    logs = tmp_path / "logs"

    def last_worker_has_ended(*args, **options):
        """Between the supervisor's look at the study and its look at the workers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any("was halted" in log.read_text() for log in logs.glob("*.log")):
                time.sleep(1)  # the process ends
                return
            time.sleep(0.05)
        pytest.fail("no worker saw the halt")

    monkeypatch.setattr(service, "annotate", last_worker_has_ended)
    with pytest.raises(StudyHalted, match="a typo") as halted:
        service.run(study, workers=1, threads=1, logs=logs, progress=_Quiet())
    assert [note.count("Traceback") for note in halted.value.__notes__] == [1]
