"""A worker as a process of its own: python ledger_worker.py NAME [die-in-claim | die-after-claim].

FMNIST_HPO_STORAGE names the storage; the study is "s". One line per event goes to stdout.
"""

import logging
import os
import signal
import sys
import time

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState

from search.ledger import Fenced, Ledger
from search.ledger.heartbeat import Heartbeat
from search.storage import open_storage


def main(name: str, death: str = "") -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    storage = open_storage(os.environ["FMNIST_HPO_STORAGE"])
    ledger = Ledger.open(storage, "s")
    study = optuna.load_study(study_name="s", storage=storage.optuna)
    study.sampler = optuna.samplers.RandomSampler()
    say("ready")
    if death == "die-in-claim":
        sa.event.listen(storage.engine, "commit", _die_if_a_trial_is_pending)
    while True:
        claim = ledger.claim(name)
        if claim is None:
            counts = ledger.counts()
            if counts.done == counts.total:
                break
            time.sleep(0.05)
            continue
        if death == "die-after-claim":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            with Heartbeat(ledger, claim.lease):
                trial = optuna.Trial(study, claim.trial._trial_id)
                with storage.optuna.batch():
                    x = trial.suggest_float("x", 0.0, 1.0)
                for step in range(1, 4):
                    time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
                    if step not in claim.trial.intermediate_values:
                        trial.report(x * step, step)
            ledger.end(claim, TrialState.COMPLETE, x)
            say(f"ended {claim.lease.lineage}")
        except (Fenced, optuna.exceptions.UpdateFinishedTrialError):
            say(f"fenced {claim.lease.lineage}")
    storage.close()


def _die_if_a_trial_is_pending(connection: sa.Connection) -> None:
    if connection.execute(sa.text("SELECT count(*) FROM trials")).scalar():
        os.kill(os.getpid(), signal.SIGKILL)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
