"""The supervisor's policy: deaths, replacement, refusal, a halt, the end."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import toy
from optuna.trial import TrialState

import search
from search import attributes
from search.errors import SearchError, StudyHalted
from search.storage import schema
from search.supervisor import run as supervisor
from search.supervisor.launchers import Exit
from search.supervisor.launchers.local import LocalLauncher, worker_command
from search.worker.contract import STORAGE_VARIABLE


class Quiet:
    """No progress is shown."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def update(self, status):
        self.last = status


class Script:
    """A launcher whose workers end as a list says, one exit a look; `None`: nobody ends."""

    where, survives = "a script", False

    def __init__(self, exits: Sequence[Exit | None], at_look: Callable[[], object] = lambda: None):
        self.exits = list(exits)
        self.at_look = at_look
        self.started = 0
        self.running = 0
        self.ended: list[str] = []
        self.stopped = False

    def start(self, count: int) -> None:
        self.started += count
        self.running += count

    def poll(self) -> Sequence[Exit]:
        self.at_look()
        gone = self.exits.pop(0) if self.exits else None
        self.running -= gone is not None
        return [gone] if gone else []

    def counts(self) -> tuple[int, int]:
        return self.running, 0

    def gone(self, names: Sequence[str]) -> Sequence[str]:
        return []

    def end(self, name: str) -> None:
        self.ended.append(name)

    def stop(self) -> Sequence[Exit]:
        self.stopped = True
        self.running = 0
        return []


@pytest.fixture(autouse=True)
def _quick(monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "annotate", lambda study: None)
    caplog.set_level("INFO", logger="search")


def died(number: int = 0, **options: object) -> Exit:
    return Exit(**{"name": f"w{number}", "code": 1, "how": "with exit code 1", "tail": "last words",
                   **options})  # fmt: skip


def test_ten_deaths_in_a_row_without_progress_end_the_run(make_study):
    launcher = Script([died(n) for n in range(30)])
    with pytest.raises(SearchError, match=r"10 workers in a row died .* exit code 1: last words"):
        supervisor.run(make_study(), launcher, workers=2, progress=Quiet())
    assert launcher.started == 2 + 9
    assert launcher.stopped


def test_deaths_by_the_engine_do_not_count_and_what_it_replaces_is_not_replaced_again(make_study):
    asked = threading.Event()
    engine = {"code": None, "how": "with its node", "blame": False}
    exits = [died(n, **engine) for n in range(25)]
    exits += [died(n, **engine, replaced=True) for n in range(25)]
    launcher = Script(exits, lambda: asked.set() if not launcher.exits else None)
    with pytest.raises(supervisor.Interrupted):
        supervisor.run(make_study(), launcher, workers=1, progress=Quiet(), asked=asked)
    assert launcher.started == 1 + 25


def test_only_a_new_step_or_the_end_of_a_lineage_is_progress(make_study):
    """A trial that is repeated for ever up to the same step is no progress."""
    study = make_study(trials=5, extra="[workers]\nmax_retries = 1000")
    claims = []

    def fail_at_step_1() -> None:
        claims.append(study.ledger.claim(f"w{len(claims)}"))
        study.storage.optuna.set_trial_intermediate_value(claims[-1].trial._trial_id, 1, 0.5)

    launcher = Script([x for n in range(50) for x in (None, died(n))],
                      lambda: launcher.exits[0] is None and fail_at_step_1())  # fmt: skip
    with pytest.raises(SearchError, match="10 workers in a row died without progress"):
        supervisor.run(study, launcher, workers=1, progress=Quiet())
    assert len(claims) <= 12  # the first step was new once


@pytest.mark.slow
def test_a_paused_trial_that_came_further_is_progress(make_study):
    """Workers die often, but what they do in between is done: the run goes on."""
    study = make_study(
        "toy:Pausing",
        trials=50,
        budget="steps = 100",
        extra='[sampler]\nname = "freeze-thaw"\n[fixed]\nsteps = 12\n',
    )

    def one_step() -> None:
        if not launcher.exits:
            raise KeyboardInterrupt
        claim = study.ledger.claim("w")
        trial, optuna = claim.trial._trial_id, study.storage.optuna
        optuna.set_trial_param(trial, "x", 0.5, study.spec.space.parameters[0].distribution)
        optuna.set_trial_user_attr(trial, attributes.LAST_STEP, 12)
        optuna.set_trial_intermediate_value(trial, 1, 0.5)
        study.ledger.pause(claim)

    launcher = Script([died(n) for n in range(25)], one_step)
    with pytest.raises(KeyboardInterrupt):
        supervisor.run(study, launcher, workers=1, progress=Quiet())
    assert study.ledger.counts().paused == 25


def test_a_refusal_ends_the_run_with_the_workers_own_words(make_study):
    launcher = Script([died(refused="need the data of the study, got others")])
    with pytest.raises(SearchError, match="^need the data of the study, got others$"):
        supervisor.run(make_study(), launcher, workers=3, progress=Quiet())
    assert launcher.stopped


@pytest.mark.slow
def test_what_a_dead_worker_held_is_free_at_once(make_study):
    study = make_study(trials=2)
    study.ledger.claim("w0")
    launcher = Script([died(0)], lambda: None if launcher.exits else search.work(study))
    status = supervisor.run(study, launcher, workers=1, progress=Quiet())
    assert (status.complete, status.lost) == (2, 1)


def test_a_worker_that_never_leaves_does_not_keep_the_run(make_study, monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.2)
    study = make_study(trials=2)
    search.work(study)
    launcher = Script([])
    progress = Quiet()
    assert supervisor.run(study, launcher, workers=1, progress=progress).ended == 2
    assert progress.last.ended == 2
    assert launcher.stopped
    assert "a worker did not leave after the last trial" in caplog.text


def test_a_trial_may_end_after_the_hours_are_over(make_study, monkeypatch):
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.0)
    study = make_study(trials=5)
    over = search.create(
        study.spec.text.replace('"toy"', '"timed"').replace("= 5", "= 5\nhours = 1e-9"),
        storage=study.storage.address,
    )
    claim = over.ledger.claim("w")
    time.sleep(0.1)
    over.ledger.heartbeat(claim.lease)
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 5:
            over.ledger.end(claim, TrialState.COMPLETE, 1.0)

    status = supervisor.run(over, Script([], look), workers=1, progress=Quiet())
    assert (status.complete, status.ended) == (1, 1)
    over.storage.close()


@pytest.mark.slow
@pytest.mark.parametrize("put_back_seconds", [0, 3600])
@pytest.mark.parametrize("by_another", [False, True])
def test_a_worker_that_lives_but_lost_its_lease_in_silence_is_ended(
    make_study, storage_url, put_back_seconds, by_another
):
    study = make_study(
        trials=1, storage=storage_url, extra="[workers]\nheartbeat_seconds = 0.1\nmax_retries = 9"
    )
    study.ledger.claim("stuck")  # and sends no heartbeat
    row = schema.lineage
    ahead = {column: row.c[column] + put_back_seconds for column in ("heartbeat", "until")}
    where = row.c.worker == "stuck"  # then the database's clock is put back
    study.storage.write(lambda session: session.execute(row.update().where(where).values(ahead)))

    def look() -> None:
        if launcher.ended:
            search.work(study)

    launcher = Script([], look)
    launcher.exits = [None] * 10**6
    thread_ends = threading.Timer(60, lambda: launcher.ended.append("too late"))
    thread_ends.daemon = True
    thread_ends.start()
    monitored = Quiet()
    another, own = search.open("toy", storage=storage_url), study.ledger.reap
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(supervisor, "LEAVE_SECONDS", 0.0)
        if by_another:  # a worker takes the lease with its claim
            patched.setattr(study.ledger, "reap", lambda: (another.ledger.reap(), own())[1])
        status = supervisor.run(study, launcher, workers=1, progress=monitored)
    thread_ends.cancel()
    assert launcher.ended[0] == "stuck"
    assert (status.complete, status.lost) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("certain", [True, False])
def test_a_loss_does_not_count_where_the_engine_notices_late_that_it_ended_the_worker(
    make_study, monkeypatch, certain
):
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.0)
    study = make_study(trials=1, extra="[workers]\nheartbeat_seconds = 0.1\nmax_retries = 1")
    study.ledger.claim("w0")  # and its node is lost
    lost = [0]

    def look() -> None:
        lost.append(study.ledger.counts().lost_attempts)
        if lost[-2:] == [0, 1]:
            launcher.exits.insert(0, died(0, code=None, blame=False, certain=certain))
        elif lost[-2:] == [1, 0]:
            search.work(study)

    launcher = Script([None] * 1000, look)
    status = supervisor.run(study, launcher, workers=1, progress=Quiet())
    assert (status.complete, study.ledger.counts().lost_attempts) == (1, 0)


@pytest.mark.slow
def test_leases_run_out_also_where_heartbeats_are_shorter_than_the_pause_between_looks(
    make_study, storage_url, monkeypatch
):
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 1.5)
    study = make_study(
        trials=1, storage=storage_url, extra="[workers]\nheartbeat_seconds = 0.5\nmax_retries = 9"
    )
    study.ledger.claim("stuck")  # and nobody else reaches the database
    asked = threading.Event()
    looks = []

    def look() -> None:
        looks.append(study.status().lost)
        if looks[-1] or len(looks) == 20:
            asked.set()

    with pytest.raises(supervisor.Interrupted):
        supervisor.run(study, Script([], look), workers=1, progress=Quiet(), asked=asked)
    assert looks[-1] == 1


@pytest.mark.slow
def test_a_halt_that_a_worker_is_the_first_to_report_keeps_its_traceback(
    make_study, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(toy.__file__).parent))
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

    monkeypatch.setattr(supervisor, "annotate", last_worker_has_ended)
    launcher = LocalLauncher(
        worker_command(study.name, study.checkpoints.address),
        environment={STORAGE_VARIABLE: study.storage.address},
        logs=logs,
    )
    with pytest.raises(StudyHalted, match="ValueError at toy.py") as halted:
        supervisor.run(study, launcher, workers=1, progress=Quiet())
    assert [note.count("Traceback") for note in halted.value.__notes__] == [1]


def test_sigterm_stops_a_run(make_study):
    launcher = Script([], lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(supervisor.Interrupted, match="study 'toy' was stopped"):
        supervisor.run(make_study(), launcher, workers=1, progress=Quiet())
    assert launcher.stopped
