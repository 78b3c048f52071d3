import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from ledger_clock import MAXIMIZE, limits
from lost_answer import lost_in_commit
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from toy import toy_spec, whole_curve

from search import attributes
from search.attributes import Reason
from search.errors import SearchError, StudyNotFound
from search.ledger import Ledger
from search.ledger.attempt import Fresh
from search.spec import parse_spec
from search.storage import Storage, open_storage, schema
from search.study import create_study, open_study
from search.study.copy_study import copy_study
from search.worker.worker import work


@pytest.fixture
def opened() -> Iterator[Callable[[str], Storage]]:
    storages: list[Storage] = []

    def open_one(url: str) -> Storage:
        storages.append(open_storage(url))
        return storages[-1]

    yield open_one
    for storage in storages:
        storage.close()


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite", "sqlite to sqlite"])
def pair(
    request: pytest.FixtureRequest, opened: Callable[[str], Storage], tmp_path: Path
) -> tuple[Storage, Storage]:
    names = request.param.split(" to ")
    urls = [
        f"sqlite:///{tmp_path}/{n}.db"
        if name == "sqlite"
        else request.getfixturevalue("postgres_url")
        for n, name in enumerate(names)
    ]
    return opened(urls[0]), opened(urls[1])


@pytest.fixture
def filled(pair: tuple[Storage, Storage]) -> Ledger:
    """A study with every kind of trial, and ids in the target that differ from the source's."""
    source, target = pair
    for _ in range(3):
        optuna.create_study(storage=target.optuna).ask()
    ledger = Ledger.create(
        source,
        "s",
        directions=MAXIMIZE,
        lineages=6,
        user_attrs={**limits(), "search:checkpoints": "runs/s/checkpoints"},
        system_attrs={"study:metric_names": ["accuracy"]},
    )
    study = optuna.load_study(study_name="s", storage=source.optuna)
    endings = [
        (TrialState.COMPLETE, 0.1 + 0.2, None),
        (TrialState.COMPLETE, float("inf"), None),
        (TrialState.PRUNED, 0.5, Reason.DIVERGED),
        (TrialState.FAIL, None, Reason.ERROR),
    ]
    for n, (state, value, reason) in enumerate(endings):
        claim = ledger.claim("w", lambda n: Fresh(params={"x": 0.5} if n == 0 else {}))
        assert claim is not None
        trial = optuna.Trial(study, claim.trial._trial_id)
        trial.suggest_float("x", 1e-4, 1.0, log=True)
        trial.suggest_int("n", 1, 10)
        trial.suggest_categorical("kind", ["ä", None, True, 3])
        trial.report(1 / 3, 1)
        trial.report(float("nan"), 2)
        trial.report(float("-inf"), 3)
        trial.set_user_attr("curves", {"loss": [1.0, None, n]})
        ledger.end(claim, state, value, reason=reason, attrs={"error": "e"} if reason else None)
    ledger.claim("dead")
    ledger.release_worker("dead")
    claim = ledger.claim("w")
    assert claim is not None
    ledger.release(claim)
    ledger.halt("e")
    source.write(
        lambda session: session.execute(
            schema.evaluation.insert().values(uid=ledger.uid, n=1, at=12.5, payload='{"a": 1}')
        )
    )
    return ledger


def rows(storage: Storage, table: sa.Table, *names: str) -> list[tuple[object, ...]]:
    columns = [table.c[name] for name in names] or list(table.c)
    return storage.read(
        lambda session: [tuple(r) for r in session.execute(sa.select(*columns).order_by(*columns))]
    )


@pytest.mark.slow
def test_everything_is_there(pair: tuple[Storage, Storage], filled: Ledger) -> None:
    source, target = pair
    count = copy_study("s", source, target)
    copied = Ledger.open(target, "s")
    assert copied.uid != filled.uid
    old, new = (
        storage.optuna.get_all_trials(ledger.study_id)
        for storage, ledger in ((source, filled), (target, copied))
    )
    assert len(old) == count == 6
    for before, after in zip(old, new, strict=True):
        for name in (
            "number",
            "state",
            "values",
            "params",
            "distributions",
            "user_attrs",
            "system_attrs",
            "datetime_start",
            "datetime_complete",
        ):
            assert getattr(after, name) == getattr(before, name), name
        assert repr(sorted(after.intermediate_values.items())) == repr(
            sorted(before.intermediate_values.items())
        )
    assert new[0].distributions == {
        "x": FloatDistribution(1e-4, 1.0, log=True),
        "n": IntDistribution(1, 10),
        "kind": CategoricalDistribution(["ä", None, True, 3]),
    }
    assert copied.attrs == {**filled.attrs, attributes.UID: copied.uid}
    for get in ("get_study_system_attrs", "get_study_directions"):
        assert getattr(target.optuna, get)(copied.study_id) == getattr(source.optuna, get)(
            filled.study_id
        )
    for table in (schema.study, schema.lineage, schema.attempt, schema.evaluation):
        kept = [name for name in table.c.keys() if name != "uid"]  # noqa: SIM118
        assert rows(target, table, *kept) == rows(source, table, *kept)
        assert {uid for (uid,) in rows(target, table, "uid")} == {copied.uid}


@pytest.mark.slow
def test_the_copy_goes_on(pair: tuple[Storage, Storage], filled: Ledger) -> None:
    source, target = pair
    copy_study("s", source, target)
    copied = Ledger.open(target, "s")
    assert copied.standing().halted == "e"
    assert copied.resume() == 1  # the other that has "e" diverged
    while (claim := copied.claim("w")) is not None:
        copied.end(claim, TrialState.COMPLETE, 1.0)
    counts = copied.counts()
    assert counts.done == counts.total == 6
    assert filled.counts().done == 4  # the source is left as it was


@pytest.mark.slow
def test_refuses(pair: tuple[Storage, Storage], filled: Ledger) -> None:
    source, target = pair
    with pytest.raises(StudyNotFound):
        copy_study("t", source, target)
    filled.resume()
    claim = filled.claim("worker-7")
    assert claim is not None
    with pytest.raises(SearchError, match=r"nobody works on it.*worker-7"):
        copy_study("s", source, target)
    filled.end(claim, TrialState.COMPLETE, 1.0)
    other = optuna.create_study(study_name="s", storage=target.optuna)
    before = [rows(source, table) for table in schema.metadata.sorted_tables]
    with pytest.raises(SearchError, match="has a study named 's' already"):
        copy_study("s", source, target)
    assert [rows(source, table) for table in schema.metadata.sorted_tables] == before
    assert other.trials == []
    optuna.delete_study(study_name="s", storage=target.optuna)
    copy_study("s", source, target)
    with pytest.raises(SearchError, match="already"):
        copy_study("s", source, target)
    assert len(target.optuna.get_all_trials(Ledger.open(target, "s").study_id)) == 7


@pytest.mark.slow
def test_the_source_is_only_read(pair: tuple[Storage, Storage]) -> None:
    """Not even a dead worker's trial is lost, nor is time counted."""
    source, target = pair
    ledger = Ledger.create(source, "s", directions=MAXIMIZE, lineages=2, user_attrs=limits())
    assert ledger.claim("dead") is not None
    long_ago = schema.lineage.update().values(until=0.0, heartbeat=0.0)
    watched = schema.study.update().values(awake=0.0)
    source.write(lambda session: [session.execute(s) for s in (long_ago, watched)])
    tables = [*schema.metadata.sorted_tables, sa.table("trials", sa.column("state"))]
    before = [rows(source, table) for table in tables]
    with pytest.raises(SearchError, match="nobody works on it"):
        copy_study("s", source, target)
    assert [rows(source, table) for table in tables] == before


@pytest.mark.slow
def test_original_and_copy_go_on_side_by_side(
    pair: tuple[Storage, Storage], tmp_path: Path
) -> None:
    """In one directory; neither sees the other's checkpoints."""
    source, target = pair
    text = toy_spec(trials=6, extra="[fixed]\nsteps = 3\n[sampler]\nname = 'tpe'")
    study = create_study(parse_spec(text, where="test"), source, checkpoints=str(tmp_path))
    stop = threading.Event()
    claim = study.ledger.claim("w", lambda n: Fresh(user_attrs={"fingerprint": {}}))
    assert claim is not None
    study.checkpoints.save(claim.lease.lineage, b"the original's", attempt=1, params={})
    study.ledger.release(claim)
    copy_study("toy", source, target)
    copied = open_study("toy", target)
    assert copied.checkpoints.load(claim.lease.lineage, params={}) is None
    study.checkpoints.delete(claim.lease.lineage)
    for number, one in enumerate((study, copied)):
        work(one, name=f"worker-{number}", stop=stop)
    for one in (study, copied):
        assert one.status().ended == 6
        for trial in one.trials:
            seed = one.spec.trial_seed(trial.user_attrs["lineage"])
            whole = whole_curve(seed, trial.params["x"], 3)
            assert list(trial.intermediate_values.values()) == whole


@pytest.mark.slow
def test_a_copy_may_be_made_in_the_same_transaction_twice(
    pair: tuple[Storage, Storage], filled: Ledger
) -> None:
    """The answer to the commit is lost: the copy is there once."""
    source, target = pair
    with lost_in_commit(target):
        assert copy_study("s", source, target) == 6
    assert len(target.optuna.get_all_trials(Ledger.open(target, "s").study_id)) == 6


@pytest.mark.slow
def test_what_a_dead_worker_held_is_freed_by_one_that_is_stopped(
    pair: tuple[Storage, Storage], filled: Ledger
) -> None:
    source, target = pair
    filled.resume()
    dead = filled.claim("dead")
    assert dead is not None
    message = "if they have died start `run` or `worker`.* and stop that"
    for _ in range(2):
        with pytest.raises(SearchError, match=message) as caught:
            copy_study("s", source, target)
        assert "\n" not in str(caught.value)
    for update in (
        schema.lineage.update().where(schema.lineage.c.worker == "dead").values(until=0.0),
        schema.study.update().values(awake=0.0),
    ):
        source.write(lambda session, update=update: session.execute(update))
    again = filled.claim("alive")
    assert again is not None
    assert again.trial.user_attrs[attributes.RETRY_OF] == dead.trial.number
    filled.release(again)
    copy_study("s", source, target)


@pytest.mark.slow
def test_what_frees_the_candidates_of_a_search_is_fit(pair: tuple[Storage, Storage]) -> None:
    source, target = pair
    Ledger.create(source, "svc", directions=MAXIMIZE, lineages=1).claim("dead")
    with pytest.raises(SearchError, match="if they have died call `fit`, which takes"):
        copy_study("svc", source, target)


@pytest.mark.slow
def test_all_or_nothing(
    pair: tuple[Storage, Storage],
    filled: Ledger,
) -> None:
    """Whatever statement fails, the target is as it was."""
    source, target = pair
    tables = [*schema.metadata.sorted_tables, sa.table("studies"), sa.table("trials")]
    counted = [sa.select(sa.func.count()).select_from(table) for table in tables]

    def counts() -> list[int]:
        return [target.read(lambda session, c=c: session.scalar(c)) for c in counted]

    before = counts()
    for stop_at in (1, 8, 20, 40):
        seen = [0]

        def fail(*_: object, seen: list[int] = seen, stop_at: int = stop_at) -> None:
            seen[0] += 1
            if seen[0] >= stop_at:
                raise ZeroDivisionError

        sa.event.listen(target.engine, "before_cursor_execute", fail)
        with pytest.raises(ZeroDivisionError):
            copy_study("s", source, target)
        sa.event.remove(target.engine, "before_cursor_execute", fail)
        assert counts() == before
    copy_study("s", source, target)
    assert counts() != before
