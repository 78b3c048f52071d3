"""What the dashboard's page may change of a study that a ledger counts."""

import threading
from pathlib import Path

import pytest
from door_browser import Browser

from search.dashboard import Artifacts, application
from search.study import Study, study_names
from search.study.delete import Deletion
from search.worker.worker import work


@pytest.fixture
def study(make_study, tmp_path, monkeypatch) -> Study:
    monkeypatch.chdir(tmp_path)
    made: Study = make_study(trials=2)
    return made


def browse(study: Study, delete) -> Browser:
    storage = study.storage.optuna
    app = application(
        storage, password=None, allow_writes=True, delete=delete, artifact_store=Artifacts(storage)
    )
    return Browser(app)


@pytest.fixture
def page(study: Study) -> Browser:
    return browse(study, lambda name: Deletion(study.storage, name).carry_out())


def path_of(study: Study) -> str:
    return f"/api/studies/{study.ledger.study_id}"


def test_a_trial_is_never_told_beside_its_ledger(study, page):
    study.ledger.claim("w")
    (trial,) = [t for t in study.optuna.trials if t.user_attrs]
    for path, content in (
        (f"/api/trials/{trial._trial_id}/tell", {"state": "Complete", "values": [99.0]}),
        (f"/api/trials/{trial._trial_id}/tell", {"state": "Fail"}),
        (f"/api/trials/{trial._trial_id}/user-attrs", {"user_attrs": {"lineage": 1}}),
        (f"{path_of(study)}/{trial._trial_id}/skip", {}),
    ):
        answer = page.write("POST", path, content, page.token())
        assert (answer.status, "use the commands add, stop" in answer.reason) == (403, True)
    assert study.optuna.trials[trial.number] == trial


def test_notes_are_free(study, page):
    note = {"version": 1, "body": "mine"}
    assert page.write("PUT", f"{path_of(study)}/note", note, page.token()).status == 204


def test_a_study_is_deleted_whole_and_not_while_somebody_works(study, page, tmp_path):
    claim = study.ledger.claim("w")
    answer = page.write("DELETE", path_of(study), {}, page.token())
    assert (answer.status, "with 1 at work (w)" in answer.reason) == (409, True)
    study.ledger.release(claim)
    work(study, name="v", stop=threading.Event())
    study.checkpoints.scoped("refit").save(0, b"refit", attempt=1, params={})
    assert [path for path in Path(tmp_path).rglob("*.checkpoint*") if path.is_file()]
    assert page.write("DELETE", path_of(study), {}, page.token()).status == 204
    assert study_names(study.storage) == []
    assert not [path for path in Path(tmp_path).rglob("*.checkpoint*") if path.is_file()]
    assert page.write("DELETE", path_of(study), {}, page.token()).status == 404


def test_whoever_serves_it_without_a_way_to_delete_is_told_the_command(study):
    page = browse(study, None)
    answer = page.write("DELETE", path_of(study), {}, page.token())
    assert (answer.status, answer.reason) == (
        409, "study 'toy' has a ledger; `delete toy` deletes both",
    )  # fmt: skip
