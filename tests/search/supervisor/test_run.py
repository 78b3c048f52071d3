"""The supervisor: what it says of a study that cannot go on."""

import time
from pathlib import Path

import pytest

from search.errors import StudyHalted
from search.supervisor import run as service
from search.supervisor.launchers.local import LocalLauncher, worker_command
from search.worker.contract import STORAGE_VARIABLE


class _Quiet:
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def update(self, status):
        pass


def test_a_halt_that_a_worker_is_the_first_to_tell_keeps_its_traceback(
    make_study, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "problems"))
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
    launcher = LocalLauncher(
        worker_command(study.name, study.checkpoints.address),
        environment={STORAGE_VARIABLE: study.storage.address},
        logs=logs,
    )
    with pytest.raises(StudyHalted, match="ValueError at toy.py") as halted:
        service.run(study, launcher, workers=1, progress=_Quiet())
    assert [note.count("Traceback") for note in halted.value.__notes__] == [1]
