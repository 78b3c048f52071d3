"""Names that a tracker would confuse or refuse, and folders that processes leave behind."""

import os
from pathlib import Path

import pytest

from search.track.folder_sink import FolderSink
from search.track.mlflow_sink import _lock, _names
from search.track.records import Origin, TrackedTrial, Unwritten
from search.track.track import bring_up_to_date


class TextSink(FolderSink):
    """Writes the state of a trial."""

    kind = "text"

    def load(self):
        pass

    def fill(self, folder, trial):
        (folder / "state").write_text(trial.state)


def trial(number=0, **params):
    return TrackedTrial(
        number=number, state="complete", began=0.0, ended=1.0, params=params, curves={}, final={},
        tags={},
    )  # fmt: skip


@pytest.fixture
def sink(tmp_path):
    return TextSink(str(tmp_path), Origin(name="toy", uid="mine", spec=""))


def test_a_parameter_named_like_an_entry_of_the_tracker_keeps_its_value():
    found = trial(state="frozen", tags=3).params_and(state="complete", tags={})
    assert found == {"state": "frozen", "tags": 3, "trial.state": "complete", "trial.tags": {}}
    assert trial(x=1).params_and(state="complete") == {"x": 1, "state": "complete"}


@pytest.mark.slow
def test_names_for_mlflow_are_valid_and_distinct():
    validation = pytest.importorskip("mlflow.utils.validation")
    names = [
        "a$b",
        "a_b",
        "a%b",
        "😀",
        "🙂",
        "x/y",
        "x//y",
        "../x",
        "/x",
        "x/",
        ".",
        "ü",
        "z" * 300,
    ]
    found = _names(names)
    assert len(set(found.values())) == len(names)
    assert (found["a_b"], found["x/y"], found["ü"]) == ("a_b", "x/y", "ü")
    for name in found.values():
        validation._validate_param_name(name)
        validation._validate_metric_name(f"final/{name}")


def test_a_stray_file_does_not_make_a_folder_unusable(sink, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "trial-notes.txt").write_text("mine")
    assert bring_up_to_date(sink, [trial(7)]).error is None
    assert sink.known() == {7}
    assert (tmp_path / "toy" / "trial-notes.txt").read_text() == "mine"


def test_a_trial_that_another_process_has_written_meanwhile_is_there(sink, tmp_path):
    assert bring_up_to_date(sink, [trial(0)]).error is None
    assert bring_up_to_date(sink, [trial(0)], known=()).error is None
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"study.json", "trial-00000"}


def test_two_processes_may_say_at_once_whose_a_folder_is(sink, tmp_path, monkeypatch):
    """The other one does so between this one's draft and its place."""
    replace, others = Path.replace, [TextSink(str(tmp_path), sink.origin)]

    def after_the_other(draft, place):
        while others:
            assert others.pop().known() == set()
        return replace(draft, place)

    monkeypatch.setattr(Path, "replace", after_the_other)
    assert sink.known() == set()
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"study.json"}


def test_only_one_process_at_a_time_writes_a_study_to_mlflow(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    uri, toy = "http://127.0.0.1:5000", Origin(name="toy", uid="mine", spec="")
    held = _lock(uri, toy)
    with pytest.raises(Unwritten, match="another command writes 'toy' to .*; wait until it has"):
        _lock(uri, toy)
    for other in (
        _lock("http://127.0.0.1:5001", toy),
        _lock(uri, Origin(name="toy", uid="other", spec="")),
    ):
        os.close(other)
    os.close(held)
    os.close(_lock(uri, toy))


def test_the_draft_of_a_killed_process_is_removed_and_that_of_another_is_not(sink, tmp_path):
    for name, age in (("killed", 4000), ("at-work", 10)):
        draft = tmp_path / "toy" / f".draft-{name}"
        draft.mkdir(parents=True)
        (draft / "state").write_text("half")
        then = draft.stat().st_mtime - age
        os.utime(draft, (then, then))
    sink.known()
    assert [path.name for path in (tmp_path / "toy").glob(".draft-*")] == [".draft-at-work"]
