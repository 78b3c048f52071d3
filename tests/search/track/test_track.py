"""Trials in MLflow, on a real server, in TensorBoard, by its own reader, and as runs of W&B."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from pathlib import Path

import pytest
from toy import toy_spec

from search.cli import app
from search.errors import SpecError
from search.spec import parse_spec
from search.spec.outside import Tracker
from search.supervisor import tracking
from search.supervisor.tracking import Tracking
from search.track.records import Bundle, Origin, Unwritten, tracked
from search.track.tensorboard_sink import TensorBoardSink
from search.track.track import bring_up_to_date, open_sink
from search.worker.worker import work

warnings.filterwarnings("ignore", module="mlflow")


def run(study):
    work(study, name="w", stop=threading.Event())


def read_back(folder):
    """Curves and hyperparameters of a trial's folder, by TensorBoard's reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    found = EventAccumulator(str(folder))
    found.Reload()
    curves = {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }
    content = found.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    return curves, start.hparams


def test_tensorboards_reader_finds_curves_and_hyperparameters(make_study, sqlite_url, tmp_path,
                                                              capsys):  # fmt: skip
    study = make_study("toy:Sized", trials=3, extra="[constraints]\nlatency_ms = { max = 0.5 }")
    run(study)
    board = tmp_path / "board"
    argv = ["track", "toy", "--to", f"tensorboard:{board}", "--storage", sqlite_url]
    assert app.main(argv) == 0
    assert "3 trials written, all 3 that have ended are there" in capsys.readouterr().out
    for trial in study.trials:
        curves, hparams = read_back(board / "toy" / f"trial-{trial.number:05}")
        assert curves["value"] == [
            (step, pytest.approx(value)) for step, value in trial.intermediate_values.items()
        ]
        assert curves["final/latency_ms"][0][1] == pytest.approx(2 * trial.params["x"] ** 2)
        assert hparams["x"].number_value == trial.params["x"]
        assert hparams["state"].string_value == "complete"
    before = {path: path.stat().st_mtime_ns for path in board.rglob("*")}
    assert app.main([*argv, "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)
    assert (again["written"], again["missing"], again["error"]) == ([], [], None)
    assert {path: path.stat().st_mtime_ns for path in board.rglob("*")} == before


def records_of(path):
    """The records of a W&B run's file: a log of LevelDB's format behind a header of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(record)
            record = b""


@pytest.mark.slow
def test_a_trial_is_an_offline_run_that_wandb_can_upload(make_study, sqlite_url, tmp_path, capfd):
    study = make_study("toy:Sized", trials=2, extra="[constraints]\nlatency_ms = { max = 0.5 }")
    run(study)
    folder = tmp_path / "runs"
    argv = ["track", "toy", "--to", f"wandb:{folder}", "--json", "--storage", sqlite_url]
    assert app.main(argv) == 0
    (first,) = json.loads(capfd.readouterr().out)  # and nothing that the client prints
    assert (first["written"], first["error"]) == ([0, 1], None)
    for trial in study.trials:
        directory = folder / "toy" / f"trial-{trial.number:05}"
        (file,) = directory.glob("wandb/offline-run-*/*.wandb")
        records = list(records_of(file))
        (begun,) = (record.run for record in records if record.HasField("run"))
        assert (begun.project, begun.display_name) == ("toy", directory.name)
        config = {item.key: json.loads(item.value_json) for item in begun.config.update}
        assert config["x"] == trial.params["x"]
        assert config["state"] == "complete"
        points = []
        for record in records:
            items = {
                (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
                for item in record.history.item
            }
            if "value" in items:
                points.append((items["_step"], items["value"]))
                assert abs(items["_timestamp"] - trial.datetime_start.timestamp()) < 60
        assert points == list(trial.intermediate_values.items())
        final = {
            (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
            for record in records
            for item in record.summary.update
        }
        assert final["final/value"] == trial.value
        assert final["final/latency_ms"] == pytest.approx(2 * trial.params["x"] ** 2)
        assert records[-1].exit.exit_code == 0
        shown = subprocess.run(
            [Path(sys.executable).parent / "wandb", "sync", "--dry-run", file.parent],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert file.name in shown.stderr
    assert app.main(argv) == 0
    (again,) = json.loads(capfd.readouterr().out)
    assert (again["written"], again["missing"], again["error"]) == ([], [], None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_folder_of_another_study_is_left_alone(make_study, tmp_path, kind):
    study = make_study(trials=1)
    run(study)
    tracker = Tracker(kind=kind, address=str(tmp_path / "board"))
    trials = [tracked(study, trial) for trial in study.trials]
    assert bring_up_to_date(
        open_sink(tracker, Origin(name="toy", uid="other", spec="")), trials
    ).written == (0,)
    outcome = bring_up_to_date(open_sink(tracker, Origin(name="toy", uid="mine", spec="")), trials)
    assert outcome.missing == (0,)
    assert "holds another study named 'toy'" in outcome.error


def test_a_supervisor_writes_while_the_study_runs_and_after_a_tracker_was_away(
    make_study, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", logger="search")
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.01)
    blocked = tmp_path / "board"
    blocked.write_text("a file in its place")
    study = make_study(trials=2)
    run(study)
    watcher = Tracking(study, Tracker(kind="tensorboard", address=str(blocked)))
    watcher.update(study.status())
    while "it is tried again" not in caplog.text:
        time.sleep(0.01)
    blocked.unlink()
    while not (blocked / "toy" / "trial-00001").exists():
        time.sleep(0.01)
    watcher.close()
    assert caplog.text.count("it is tried again") == 1
    assert "not written" not in caplog.text


def test_a_tracker_is_asked_once_what_it_has(make_study, tmp_path, monkeypatch):
    asked, known = [], TensorBoardSink.known
    monkeypatch.setattr(TensorBoardSink, "known", lambda sink: asked.append(1) or known(sink))
    study = make_study(trials=1)
    watcher = Tracking(study, Tracker(kind="tensorboard", address=str(tmp_path)))
    for number in range(2):
        run(study)
        watcher.update(study.status())
        while not (tmp_path / "toy" / f"trial-{number:05}").exists():
            time.sleep(0.01)
        study.extend(trials=1)
    watcher.close()
    assert len(asked) == 1


@pytest.mark.slow
def test_what_is_missing_at_the_end_is_one_line(make_study, tmp_path, caplog):
    with socket.socket() as closed:  # a port where nobody listens
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    study = make_study(trials=2)
    run(study)
    watcher = Tracking(study, Tracker(kind="mlflow", address=uri))
    watcher.update(study.status())
    watcher.close()
    assert (
        f"mlflow:{uri}: 2 trials not written ({uri} does not answer: Connection refused); "
        f"`track toy --to mlflow:{uri}` writes what is missing"
    ) in caplog.text


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ('["aim:x"]', "a tracker is mlflow:URI, tensorboard:DIR or wandb:DIR, got 'aim:x'"),
        ('["mlflow:"]', "a tracker is mlflow:URI, tensorboard:DIR or wandb:DIR, got 'mlflow:'"),
        *(
            (f'["{to}"]', "an address that is stored and shown has no password")
            for to in (
                "mlflow:http://me:secret@host",
                "mlflow:http://host/?token=secret",
                "mlflow:https://secret@host",
                "mlflow:postgresql://me@host/x?password=secret",
                "mlflow:http://me:se/secret@host",
                "mlflow:http://me:secret@host\\n",
                "wandb:https://me:secret@host",
                "https://me:secret@host",
            )
        ),
        ("[3]", "a tracker is mlflow:URI, tensorboard:DIR or wandb:DIR, got 3"),
    ],
)
def test_what_is_no_tracker_is_refused(to, message):
    with pytest.raises(SpecError, match=message) as caught:
        parse_spec(toy_spec(extra=f"[track]\nto = {to}"), where="f.toml")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("mlflow:http://127.0.0.1:x", "is no address of a server"),
        ("mlflow:http://127.0.0.1:99999", "is no address of a server"),
        ("mlflow:http://[::1", "is no address of a server"),
        ("mlflow:http://", "is no address of a server"),
        (f"mlflow:http://{'a' * 300}", "is no address of a server"),
        ("mlflow:postgresql://me@127.0.0.1:1/x", "does not answer: Connection refused"),
        ("tensorboard:~nobody-of-that-name/board", "names no home directory"),
        ("tensorboard:/dev/null/board", "cannot be written: NotADirectoryError"),
    ],
)
def test_a_place_that_cannot_be_reached_is_one_line(to, words, make_study, sqlite_url, capsys):
    study = make_study(trials=1)
    run(study)
    assert app.main(["track", "toy", "--to", to, "--storage", sqlite_url]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ") and words in err


@pytest.mark.parametrize("owner", ["", "[]", "null", "{}", '{"uid": 1}', "\0"])
def test_a_folder_whose_owner_is_not_known_is_left_alone(owner, make_study, sqlite_url, tmp_path):
    make_study(trials=1)
    (tmp_path / "board" / "toy").mkdir(parents=True)
    (tmp_path / "board" / "toy" / "study.json").write_text(owner)
    to = f"tensorboard:{tmp_path / 'board'}"
    assert app.main(["track", "toy", "--to", to, "--storage", sqlite_url]) == 2
    assert (tmp_path / "board" / "toy" / "study.json").read_text() == owner


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """An MLflow server on loopback."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1", "--port",
             str(port), "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
             "--artifacts-destination", folder / "artifacts", "--workers", "1"],
            env=environment, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
@pytest.mark.process
def test_a_real_mlflow_server_has_each_trial_once(
    make_study, sqlite_url, mlflow_server, tmp_path, capfd
):
    study = make_study("toy:Sized", trials=3, space="x = { float = [0.0, 1.0] }")
    run(study)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "MODEL_CARD.md").write_text("a card")
    tracker = Tracker(kind="mlflow", address=mlflow_server)
    origin = Origin(name="toy", uid=study.uid, spec=study.spec.hash)
    trials = [tracked(study, trial) for trial in study.trials]
    sink = open_sink(tracker, origin)
    sink.known()
    client, experiment = sink._client, sink._experiment
    half = client.create_run(experiment, tags={"fmnist-hpo.uid": study.uid})
    del sink  # as if its process had been killed here
    best = study.best.number
    argv = ["track", "toy", "--to", str(tracker), "--json", "--storage", sqlite_url]
    assert app.main(argv) == 0
    (first,) = json.loads(capfd.readouterr().out)  # and nothing that MLflow's client prints
    assert (first["written"], first["error"]) == ([0, 1, 2], None)
    for expected in ((), ()):
        outcome = bring_up_to_date(
            open_sink(tracker, origin), trials, [Bundle(trial=best, path=bundle)]
        )
        assert (outcome.written, outcome.missing, outcome.error) == (expected, (), None)
    runs = {int(one.data.tags["fmnist-hpo.trial"]): one for one in client.search_runs([experiment])}
    assert runs.keys() == {0, 1, 2}
    assert half.info.run_id not in {one.info.run_id for one in runs.values()}
    for trial in study.trials:
        one = runs[trial.number]
        assert one.info.status == "FINISHED"
        assert float(one.data.params["x"]) == trial.params["x"]
        history = client.get_metric_history(one.info.run_id, "value")
        assert [(m.step, m.value) for m in history] == list(trial.intermediate_values.items())
        assert one.data.metrics["final/value"] == trial.value
        assert one.data.tags["worker"] == "w"
    files = client.list_artifacts(runs[best].info.run_id, "bundle")
    assert [file.path for file in files] == ["bundle/MODEL_CARD.md"]


@pytest.mark.slow
@pytest.mark.process
def test_a_server_that_refuses_is_one_line(make_study, mlflow_server):
    study = make_study(trials=1)
    run(study)
    tracker = Tracker(kind="mlflow", address=f"{mlflow_server}/nowhere")
    sink = open_sink(tracker, Origin(name="toy", uid=study.uid, spec=""))
    with pytest.raises(Unwritten, match="/nowhere refuses: ") as caught:
        sink.known()
    assert "\n" not in str(caught.value)
