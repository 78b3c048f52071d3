"""What a worker does at each moment of a trial: ours, and one of plain `study.optimize`."""

import threading
from typing import Any

HEARTBEAT_SECONDS = 5.0


class Heartbeats:
    """Our heartbeats, as the statements that one of them consists of.

    SQLAlchemy takes most of a heartbeat's time on the client. In a real crowd each worker has a
    processor of its own for that, so here the statements of the first are recorded and sent again
    for each lease, over a plain connection.
    """

    def __init__(self, study: Any) -> None:
        self._ledger = study.ledger
        self._engine = study.storage.engine
        self._url = study.storage.address.replace("postgresql+psycopg://", "postgresql://")
        self._statements: list[tuple[str, dict[str, Any]]] = []
        self._connection: Any = None

    def send(self, lease: Any) -> bool:
        """One heartbeat; False when the lease is no longer the worker's."""
        if self._connection is None:
            return self._record(lease)
        own = {"lineage": lease.lineage, "attempt": lease.attempt, "worker": lease.worker}
        held = True
        self._connection.execute("SELECT 1")  # as the pool asks whether the connection lives
        self._connection.rollback()
        for statement, recorded in self._statements:
            given = {
                key: own.get(key.rpartition("_")[0], value)
                for key, value in (recorded or {}).items()
            }
            cursor = self._connection.execute(statement, given or None)
            if statement.startswith("UPDATE search_lineage"):
                held = cursor.rowcount == 1
        self._connection.commit()
        return held

    def _record(self, lease: Any) -> bool:
        import psycopg
        import sqlalchemy as sa

        def on_execute(_: Any, __: Any, statement: str, given: Any, *___: Any) -> None:
            if threading.get_ident() == here:
                self._statements.append((statement, given))

        here = threading.get_ident()
        sa.event.listen(self._engine, "before_cursor_execute", on_execute)
        held = bool(self._ledger.heartbeat(lease))
        sa.event.remove(self._engine, "before_cursor_execute", on_execute)
        self._connection = psycopg.connect(self._url, prepare_threshold=None)
        return held


class Ours:
    """Trials by the worker's own code."""

    def __init__(self, url: str) -> None:
        from search.storage import open_storage
        from search.study import open_study
        from search.worker.history import History

        self._study = open_study("s", open_storage(url))
        self._history = History(["maximize"], 5)
        self._claims: dict[str, Any] = {}
        self._heartbeats = Heartbeats(self._study)

    def begin(self, name: str) -> Any:
        """The trial of a worker; None when nothing is free."""
        from search.worker.claims import Claims
        from search.worker.suggest import suggest
        from search.worker.trial_run import TrialRun

        study = self._study
        claims = self._claims.setdefault(name, Claims(study, name))
        study.ledger.standing()
        study.refresh()
        claim = claims.next(threading.Event())
        if claim is None:
            if not study.ledger.busy():
                study.ledger.counts()
            return None
        with study.storage.optuna.batch():
            proposal = suggest(study, claim, self._history)
        run = TrialRun(
            proposal.trial,
            params=proposal.params,
            seed=0,
            lineage=claim.lease.lineage,
            attempt=claim.lease.attempt,
            checkpoints=study.checkpoints,
            stop=threading.Event(),
            lost=threading.Event(),
            held=threading.Event(),
            timeout_seconds=None,
            last_value=None,
            batch=study.storage.optuna.batch,
            prunable=True,
            audited=False,
        )
        return claim, run

    def report(self, trial: Any, step: int) -> None:
        trial[1].report(step, 0.5)

    def end(self, trial: Any) -> None:
        from optuna.trial import TrialState

        self._study.ledger.end(trial[0], TrialState.COMPLETE, 0.5)

    def heartbeat(self, trial: Any) -> bool:
        """False when the lease is no longer the worker's."""
        return self._heartbeats.send(trial[0].lease)


class Plain:
    """Trials as `study.optimize` makes them."""

    def __init__(self, url: str) -> None:
        import optuna

        url = url.replace("postgresql://", "postgresql+psycopg://")
        kwargs = {"pool_size": 2, "connect_args": {"prepare_threshold": None}}
        storage = optuna.storages.RDBStorage(
            url, engine_kwargs=kwargs, heartbeat_interval=int(HEARTBEAT_SECONDS)
        )
        self._rdb = storage
        self._study = optuna.load_study(
            study_name="s",
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
        )

    def begin(self, name: str) -> Any:  # noqa: ARG002
        import optuna

        optuna.storages.fail_stale_trials(self._study)
        trial = self._study.ask()
        trial.suggest_float("a", 0.0, 1.0)
        trial.suggest_float("b", 1e-5, 1.0, log=True)
        trial.suggest_int("c", 1, 100)
        trial.suggest_float("d", -1.0, 1.0)
        trial.suggest_categorical("e", ["x", "y", "z"])
        return trial

    def report(self, trial: Any, step: int) -> None:
        trial.report(0.5, step)
        trial.should_prune()

    def end(self, trial: Any) -> None:
        self._study.tell(trial, 0.5)

    def heartbeat(self, trial: Any) -> bool:
        self._rdb.record_heartbeat(trial._trial_id)
        return True
