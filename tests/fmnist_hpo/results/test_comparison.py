"""`compare` on three small studies of a slice of the real images; McNemar's test against sums."""

import csv
import json
import math
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from fmnist_hpo import cli
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.predictions import FILE, Predictions
from fmnist_hpo.data.idx import locate, open_idx
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.comparison import compare, mcnemar
from fmnist_hpo.results.comparison_table import lines
from fmnist_hpo.results.measurement import attach_recorded, measure, recorded
from fmnist_hpo.results.places import bundle_path
from fmnist_hpo.results.winner import export_trial
from search.spec import parse_spec
from search.storage import open_storage
from search.study import Study, create_study
from search.worker.worker import work

pytestmark = pytest.mark.slow

SPEC = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "{name}"
metric = "val_accuracy"
direction = "maximize"
[data]
dir = "{directory}"
[fixed]
family = "ann"
hidden_units_0 = 24
hidden_units_1 = 16
batch_norm = true
batch_size = 32
[[trials]]
name = "only"
params = {{ epochs = {epochs} }}
"""


@pytest.fixture
def directory(fashion_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; the first 1,000 training and 300 test images in idx format."""
    (tmp_path / "data").mkdir()
    for stem, count in (("train", 1000), ("t10k", 300)):
        for kind in ("images-idx3", "labels-idx1"):
            name = f"{stem}-{kind}-ubyte"
            values = open_idx(locate(fashion_dir, name), None)[0][:count]
            head = bytes((0, 0, 8, values.ndim))
            head += b"".join(size.to_bytes(4, "big") for size in values.shape)
            (tmp_path / "data" / name).write_bytes(head + values.tobytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(directory: Path, name: str, epochs: int) -> Study:
    text = SPEC.format(name=name, directory=directory / "data", epochs=epochs)
    storage = open_storage("sqlite:///runs/studies.db")
    study = create_study(parse_spec(text, where=name), storage, checkpoints=f"runs/{name}/kept")
    work(study, name="here", stop=threading.Event())
    return study


def test_compare_reads_what_was_recorded_and_measures_nothing_anew(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = []
    for name, epochs in (("long", 4), ("short", 1)):
        study = run(directory, name, epochs)
        bundle = export_trial(study, None, bundle_path(study), refit=False)
        measure(study, bundle, again=False)
        bundles.append(Bundle.open(bundle.path))
    run(directory, "bare", 1)
    capsys.readouterr()

    assert cli.main(["compare", "long", "short", "bare", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    weights = 784 * 24 + 24 * 16 + 16 * 10
    for row, bundle in zip(found["rows"], bundles, strict=False):
        test = bundle.metrics.test
        assert test.metrics.n == 300
        assert row["test_accuracy"] == test.metrics.accuracy
        assert (row["test_low"], row["test_high"]) == test.metrics.accuracy_interval
        assert row["test_measurements"] == 1
        assert row["validation_accuracy"] == bundle.provenance.value
        # Batch norm has two values a unit, the classifier ten biases.
        assert row["parameters"] == weights + 2 * (24 + 16) + 10
        assert row["flops"] == 2 * weights
        assert row["model_bytes"] == len(bundle.files["model.safetensors"])
        assert row["train_seconds"] == bundle.metrics.fit_seconds > 0
        assert row["images_per_second"] > 1 / row["latency_seconds"] > 0
    bare = found["rows"][2]
    assert bare["validation_accuracy"] > 0.3
    assert [bare[name] for name in ("test_accuracy", "train_seconds", "flops")] == [None] * 3
    assert found["missing"] == [
        "bare: no bundle in runs/bare/bundle; `fmnist-hpo export bare`",
        "bare: test set not measured; `fmnist-hpo evaluate runs/bare/bundle`",
    ]

    (pair,) = found["pairs"]
    right = {b.provenance.study: Predictions.from_bytes(b.read(FILE)).right for b in bundles}
    best, other = right[pair["best"]], right[pair["other"]]
    assert best.sum() >= other.sum()
    assert pair["only_best"] + pair["only_other"] == int((best != other).sum())
    assert pair["p_value"] == mcnemar(best, other)

    assert cli.main(["compare", "long", "bare", "--csv", "table.csv"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^long +ann +\d\d\.\d\d % +\d\d\.\d\d % \(\d", shown, re.MULTILINE)
    assert "missing: bare: test set not measured" in shown
    with Path("table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["study"] for row in table] == ["long", "bare"]
    assert float(table[0]["test_accuracy"]) == bundles[0].metrics.test.metrics.accuracy
    assert (table[1]["test_accuracy"], table[1]["parameters"]) == ("", "")
    assert [Bundle.open(bundle.path).files for bundle in bundles] == [b.files for b in bundles]

    for argv, said in (
        (["compare", "long", "nowhere"], "no study named 'nowhere'"),
        (["compare", "long", "--csv", "no/where.csv"], "cannot write no/where.csv"),
    ):
        assert cli.main(argv) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert said in lines[0]


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (0, 1), (5, 5), (1, 9), (40, 12), (905, 195), (3000, 7000)]
)
def test_mcnemar(first: int, second: int) -> None:
    """Both are right 7 times and wrong 3 times, too: neither counts."""
    one = np.array([True] * first + [False] * second + [True] * 7 + [False] * 3)
    other = np.array([False] * first + [True] * second + [True] * 7 + [False] * 3)
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))  # whole numbers: exact
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-9)
    assert mcnemar(other, one) == mcnemar(one, other)


def test_a_measurement_belongs_to_the_bytes_of_the_model_and_data_sets_are_not_mixed(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = run(directory, "one", 1)
    bundle = export_trial(study, None, bundle_path(study), refit=False)
    measure(study, bundle, again=False)
    measured = Bundle.open(bundle.path)

    # The same trial trained on another machine: other weights, and none of the figures.
    weights = bytearray(bundle.read("model.safetensors"))
    weights[-1] ^= 1
    other = {**bundle.files, "model.safetensors": bytes(weights)}
    elsewhere = attach_recorded(study, Bundle.write(directory / "elsewhere", other))
    assert elsewhere.metrics.test is None
    assert recorded(study, elsewhere) is None
    again = attach_recorded(study, Bundle.write(directory / "again", bundle.files))
    assert again.metrics.test == measured.metrics.test

    # Another bundle of the study is measured: the first one's predictions are still its own.
    measure(study, elsewhere, again=True)
    found = compare([study])
    assert found.rows[0].test_accuracy == measured.metrics.test.metrics.accuracy
    assert found.chosen[0].predictions is not None
    assert found.missing == ()

    # The checkpoint is gone: nothing is trained unless that is asked for.
    shutil.rmtree("runs/one/kept")
    with pytest.raises(InputError, match=r"need the checkpoint of trial 0, found none in /.*kept"):
        export_trial(study, None, bundle_path(study), refit=False)

    images = directory / "data" / "train-images-idx3-ubyte"
    changed = bytearray(images.read_bytes())
    changed[16:1000] = bytes(984)
    (directory / "second").mkdir()
    for path in images.parent.iterdir():
        shutil.copy(path, directory / "second")
    (directory / "second" / images.name).write_bytes(changed)
    images.parent.rename(directory / "first")
    (directory / "second").rename(directory / "data")
    two = run(directory, "two", 1)
    measure(two, export_trial(two, None, bundle_path(two), refit=False), again=False)
    found = compare([study, two])
    assert not found.one_data_set
    assert found.notes[0].startswith(f"different data sets: one on {found.rows[0].data}; two on ")
    shown = "\n".join(lines(found))
    assert f"note: {found.notes[0]}" in shown
    assert re.search(rf"^one +{found.rows[0].data} ", shown, re.MULTILINE)
