"""From `run` to the bundle, the sealed test set and `reproduce`, on a slice of the real images."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist_hpo import data
from fmnist_hpo.bundle import Bundle, to_json
from fmnist_hpo.problem import FashionProblem

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # each is several trainings

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "slice"
metric = "val_accuracy"
direction = "maximize"
[budget]
trials = {trials}
[workers]
heartbeat_seconds = 2.0
[data]
dir = "data"
[fixed]
family = "ann"
epochs = {epochs}
batch_size = 32
dropout = 0.1
batch_norm = true
[space]
hidden_units = {{ int = [16, 64], log = true }}
learning_rate = {{ float = [1e-3, 1e-2], log = true }}
"""


def write(command, *, trials: int = 2, epochs: int = 3) -> None:
    (command.directory / "slice.toml").write_text(SPEC.format(trials=trials, epochs=epochs))


def test_one_command_searches_exports_measures_once_and_reproduces(sliced):
    del sliced.environment["OMP_NUM_THREADS"]  # as a user has it: a refit takes all cores
    write(sliced)
    done = sliced("run", "slice.toml", timeout=250)
    assert done.returncode == 0, done.stderr
    assert re.search(r"test +\d\d\.\d\d % accuracy, 95 % interval .* \(measured once;", done.stdout)
    folder = sliced.directory / "runs" / "slice" / "bundle"
    bundle = Bundle.open(folder)
    best = json.loads(sliced("best", "slice", "--json").stdout)
    assert bundle.provenance.trial == best["trial"]
    # The weights that were exported are those whose accuracy was the trial's value.
    assert bundle.metrics.validation.accuracy == best["val_accuracy"]
    assert bundle.metrics.test.metrics.n == 500

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = sliced("run", "slice.toml")
    assert "is finished: 2 of 2 trials ended" in again.stdout
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert "was measured once" in sliced.error("evaluate", str(folder))
    second = sliced("evaluate", str(folder), "--again")
    assert "measurement 2 of the study's test set" in second.stdout
    assert "measured 2 times" in Path(folder / "MODEL_CARD.md").read_text()

    same = sliced("reproduce", "slice")
    assert (same.returncode, "identical: 3 steps" in same.stdout) == (0, True), same.stdout

    refit = sliced("export", "slice", "--refit", "--out", "refit")
    assert "training trial" in refit.stdout
    assert re.findall(r"epoch (\d)/3, training accuracy 0\.\d{4}, about", refit.stdout) == [
        "1",
        "2",
        "3",
    ]
    assert Bundle.open(sliced.directory / "refit").provenance.refit is True

    boot = np.asarray(data.load_training(data.find()).images[0])
    Image.fromarray(255 - boot).save(sliced.directory / "boot.png")
    said = sliced("predict", str(folder), "boot.png").stdout
    assert "inverted" in said
    assert re.search(r"boot\.png: 9 \d+\.\d %", said)
    (sliced.directory / "no.png").write_bytes(b"no image")
    assert "need an image" in sliced.error("predict", str(folder), "no.png")

    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert "model.safetensors" in sliced.error("evaluate", str(folder), "--again")

    train = sliced.directory / "data" / "train-images-idx3-ubyte"
    changed = bytearray(train.read_bytes())
    changed[1000] ^= 1
    train.write_bytes(changed)
    assert "created on other data (split: " in sliced.error("reproduce", "slice")


def test_a_metric_that_is_not_returned_is_refused(sliced):
    write(sliced)
    file = sliced.directory / "slice.toml"
    text = file.read_text()
    for wrong in (
        text.replace("val_accuracy", "val_loss").replace("maximize", "minimize"),
        text.replace("maximize", "minimize"),
    ):
        file.write_text(wrong)
        line = sliced.error("run", "slice.toml")
        assert "returns 'val_accuracy', to maximize, got metric 'val_" in line
        assert not (sliced.directory / "runs" / "slice").exists()


def test_the_best_is_measured_whatever_was_exported_before(sliced):
    write(sliced, epochs=1)
    folder = sliced.directory / "runs" / "slice" / "bundle"
    sliced("create", "slice.toml")
    sliced("worker", "slice")
    best = json.loads(sliced("best", "slice", "--json").stdout)["trial"]
    other = 1 - best
    sliced("export", "slice", "--trial", str(other))
    done = sliced("run", "slice.toml")
    assert f"exporting trial {best} to runs/slice/bundle" in done.stdout
    bundle = Bundle.open(folder)
    assert bundle.provenance.trial == best
    (test,) = re.findall(r"test +(.*) \(measured once", done.stdout)

    (folder / "model.onnx").write_bytes(b"damaged")
    sliced("export", "slice")  # whole again, and with what was measured of it
    assert Bundle.open(folder).metrics.test == bundle.metrics.test
    sliced("export", "slice", "--trial", str(other), "--out", "other")
    assert Bundle.open(sliced.directory / "other").metrics.test is None
    assert "was measured once" in sliced.error("evaluate", "other")
    assert sliced("evaluate", "other", "--again").returncode == 0
    assert f"{test} (measured 2 times" in sliced("run", "slice.toml").stdout
    (row,) = json.loads(sliced("compare", "slice", "--json").stdout)["rows"]
    assert row["test_accuracy"] == bundle.metrics.test.metrics.accuracy
    assert row["test_measurements"] == 2
    sliced("report", "slice")
    page = (sliced.directory / "runs" / "slice" / "report" / "report.html").read_text()
    assert re.search(rf"Test accuracy: {test[:7]}.* measured 2 times", page)
    assert "Exported: trial" not in page

    sliced("export", "slice", "--trial", str(other))  # then that is what tables are about
    bundle = Bundle.open(folder)
    (row,) = json.loads(sliced("compare", "slice", "--json").stdout)["rows"]
    assert row["validation_accuracy"] == bundle.provenance.value
    assert row["test_accuracy"] == bundle.metrics.test.metrics.accuracy
    sliced("report", "slice")
    page = (sliced.directory / "runs" / "slice" / "report" / "report.html").read_text()
    assert f"Exported: trial {other}, not the best" in page


def test_a_data_set_without_test_files_is_said_before_the_search_and_exported(sliced):
    write(sliced, trials=1, epochs=1)
    there = sliced.directory / "data" / "t10k-labels-idx1-ubyte"
    away = there.rename(sliced.directory / "away")
    done = sliced("run", "slice.toml")
    assert done.returncode == 0, done.stderr
    why = "data has no t10k-labels-idx1-ubyte to measure on; add the file and run the same command"
    assert (
        f"test       {why} again; without it the run ends" in done.stdout.partition("1/1 ended")[0]
    )
    assert f"test        not measured: {why} again\n" in done.stdout
    folder = sliced.directory / "runs" / "slice" / "bundle"
    assert Bundle.open(folder).metrics.test is None
    line = sliced.error("evaluate", str(folder))
    assert "put the file there or name another dir in [data], or put a link" in line
    away.rename(there)
    done = sliced("run", "slice.toml")
    assert "to measure on" not in done.stdout
    assert "(measured once" in done.stdout


def test_run_measures_the_refit_that_it_is_asked_for_and_mends_a_bundle_that_lacks_it(sliced):
    write(sliced, trials=1, epochs=1)
    sliced("create", "slice.toml")
    sliced("worker", "slice")
    sliced("export", "slice")
    folder = sliced.directory / "runs" / "slice" / "bundle"
    own = Bundle.open(folder)
    done = sliced("run", "slice.toml", "--refit", "--flip", "auto")
    assert "(measured once; trained on 2,000 images)" in done.stdout, done.stdout + done.stderr
    measured = Bundle.open(folder)
    assert measured.provenance.refit is True
    # The trial's own weights decided how the refit is read: it has no validation images itself.
    readout, found = measured.config.readout, measured.config.readout.evidence
    assert (found.before_refit, found.images) == (True, 400)
    assert readout.flip is (found.gained > found.lost)
    if not readout.flip:
        assert readout.temperature == own.config.readout.temperature
        assert found.calibration_error == own.metrics.validation.calibration_error
    assert "| validation part, before the refit |" in measured.read("MODEL_CARD.md").decode()

    # As the disk is left when it is full just after the measurement was recorded.
    files = {name: data for name, data in measured.files.items() if "predictions" not in name}
    Bundle.write(
        folder, {**files, "metrics.json": to_json({**measured.metrics.to_json(), "test": None})}
    )
    said = sliced("run", "slice.toml", "--flip").stdout
    assert "(measured once; trained on 2,000 images)" in said
    assert ("was exported without --flip yes" in said) is not readout.flip
    mended = Bundle.open(folder)
    assert mended.metrics.test == measured.metrics.test

    covered = "identical: 1 step "
    not_covered = "holds this configuration, retrained on all 2,000 images"
    said = sliced("reproduce", "slice").stdout
    assert covered in said
    assert f"not covered: runs/slice/bundle {not_covered}; `fmnist-hpo export" in said
    environment = mended.provenance.environment | {"processor": "a faster one"}
    provenance = to_json({**mended.provenance.to_json(), "environment": environment})
    Bundle.write(folder, {**mended.files, "provenance.json": provenance})
    said = sliced("reproduce", "slice").stdout
    assert f"{not_covered}, in another environment; `fmnist-hpo export" in said
    assert "\n  processor: a faster one then, " in said
    (folder / "MODEL_CARD.md").unlink()
    done = sliced("reproduce", "slice")
    assert (done.returncode, covered in done.stdout, not_covered in done.stdout) == (0, True, False)


def test_a_bundle_of_another_study_of_that_name_is_neither_used_nor_replaced(sliced):
    write(sliced, trials=1, epochs=1)
    assert sliced("run", "slice.toml").returncode == 0
    folder = sliced.directory / "runs" / "slice" / "bundle"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    elsewhere = ("--storage", "sqlite:///other.db")
    line = "holds a bundle of another study called slice; move it away"
    assert line in sliced.error("run", "slice.toml", *elsewhere)  # before the search
    assert not (sliced.directory / "other.db").exists()
    assert sliced("create", "slice.toml", *elsewhere).returncode == 0
    assert line in sliced.error("run", "slice", *elsewhere)
    sliced("worker", "slice", *elsewhere)
    assert line in sliced.error("export", "slice", *elsewhere)
    assert "is not of the study 'slice' in" in sliced.error("evaluate", str(folder), *elsewhere)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    folder.rename(sliced.directory / "moved")
    assert "(measured once" in sliced("run", "slice.toml", *elsewhere).stdout


def test_a_trial_killed_in_an_epoch_ends_with_the_curve_of_an_uninterrupted_one(sliced):
    write(sliced, trials=1, epochs=80)
    assert sliced("create", "slice.toml").returncode == 0
    worker = sliced.start("worker", "slice")
    deadline = time.monotonic() + 120
    while reported(sliced) < 3:
        assert time.monotonic() < deadline
        assert worker.poll() is None
        time.sleep(0.005)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert 3 <= reported(sliced) < 80
    # Nobody saw it die, so it is missed only after its lease; a run would wait as well.
    finished = sliced("worker", "slice", timeout=250)
    assert "goes on with attempt 2" in finished.stdout
    first, second = rows(sliced)
    assert (first["reason"], second["retry_of"], second["state"]) == ("lost", "0", "complete")
    replay = sliced("reproduce", "slice", "--trial", "1", timeout=250)
    assert replay.returncode == 0, replay.stdout
    assert "identical: 80 steps" in replay.stdout

    refit = sliced.start("export", "slice", "--refit", "--out", "refit")
    deadline = time.monotonic() + 120
    while not (kept := list(sliced.directory.glob("runs/slice/checkpoints/*/refit/*.checkpoint"))):
        assert time.monotonic() < deadline
        assert refit.poll() is None
        time.sleep(0.005)
    os.kill(refit.pid, signal.SIGKILL)
    refit.wait()
    again = sliced("export", "slice", "--refit", "--out", "refit")
    assert again.returncode == 0, again.stderr
    gone_on = re.search(r"continuing after epoch (\d+) of 80\n", again.stdout)
    assert gone_on is not None, again.stdout
    assert 1 <= int(gone_on[1]) < 80
    assert f"epoch {gone_on[1]}/80" not in again.stdout
    assert len(Bundle.open(sliced.directory / "refit").metrics.curves["train_loss"]) == 80
    assert not kept[0].exists()


def reported(command) -> int:
    """How many steps stand in the database; asked there, as a command takes many epochs' time."""
    file = command.directory / "runs" / "studies.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM trial_intermediate_values").fetchone()
    return int(count)


def rows(command) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(command("trials", "slice", "--csv").stdout)))


def test_a_refit_that_was_broken_off_gives_the_weights_of_one_that_was_not(sliced):
    problem = FashionProblem({"dir": str(sliced.directory / "data")})
    params = {"family": "ann", "hidden_units": 16, "dropout": 0.2, "flip": True, "epochs": 4}
    saved: list[bytes] = []

    def weights(checkpoint: bytes | None, save) -> bytes:
        model = problem.model(
            params,
            problem.everything,
            seed=7,
            curves={},
            checkpoint=checkpoint,
            save=save,
            say=print,
        )
        return model.files["model.safetensors"]

    def break_off(checkpoint: bytes) -> None:
        saved.append(checkpoint)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights(None, break_off)
    again: list[bytes] = []
    assert weights(saved[-1], again.append) == weights(None, lambda checkpoint: None)
    assert len(again) == 2
