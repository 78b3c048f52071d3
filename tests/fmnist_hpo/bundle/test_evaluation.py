"""The sealed test set: measured right, written into the bundle whole, counted."""

import ast
import dataclasses
import gzip
import json
import resource
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

import fmnist_hpo
from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.evaluation import Evaluation, attach, evaluate
from fmnist_hpo.bundle.predictions import Predictions
from fmnist_hpo.data import FILES, load_training
from fmnist_hpo.data import split as split_data
from fmnist_hpo.errors import InputError
from fmnist_hpo.metrics import measure, softmax
from fmnist_hpo.networks.training import train

if TYPE_CHECKING:
    from conftest import Trained


@pytest.fixture(scope="module")
def evaluation(exported: Bundle, fashion_dir: Path) -> Evaluation:
    return evaluate(exported, fashion_dir)


def read_gz(path: Path, offset: int) -> NDArray[np.uint8]:
    """The values of a gzipped idx file, by other means than the package's."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


@pytest.mark.slow
def test_figures_are_scikit_learns_on_the_real_test_set(
    exported: Bundle, evaluation: Evaluation, fashion_dir: Path
) -> None:
    images = read_gz(fashion_dir / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = read_gz(fashion_dir / "t10k-labels-idx1-ubyte.gz", 8)
    session = onnxruntime.InferenceSession(exported.read("model.onnx"))
    probabilities = softmax(session.run(None, {"images": images.astype(np.float32)})[0])
    predicted = probabilities.argmax(axis=1)
    metrics = evaluation.metrics
    assert metrics.n == 10_000
    # the bundle is measured as it was trained, in bf16 where the processor has it
    assert metrics.accuracy == pytest.approx(accuracy_score(labels, predicted), abs=0.005)
    assert metrics.loss == pytest.approx(log_loss(labels, probabilities), rel=0.02)
    difference = np.abs(np.array(metrics.confusion) - confusion_matrix(labels, predicted))
    assert difference.sum() < 200
    assert [one.support for one in metrics.per_class] == [1000] * 10


def test_the_test_files_are_recorded(evaluation: Evaluation) -> None:
    assert evaluation.hashes == {name: FILES[name] for name in FILES if name.startswith("t10k")}


def test_samples_are_right_and_sure_wrong_and_sure_and_unsure(evaluation: Evaluation) -> None:
    right = [one for one in evaluation.samples if one.right and not one.unsure]
    wrong = [one for one in evaluation.samples if not one.right and not one.unsure]
    unsure = [one for one in evaluation.samples if one.unsure]
    assert (len(right), len(wrong), len(unsure)) == (16, 16, 16)
    confidences = [one.confidence for one in wrong]
    assert confidences == sorted(confidences, reverse=True)
    least_right = min(one.confidence for one in right)
    assert max(one.confidence for one in unsure) < min(least_right, min(confidences))


def test_the_predictions_of_every_image_are_those_that_were_measured(
    exported: Bundle, evaluation: Evaluation, fashion_dir: Path
) -> None:
    assert evaluation.predictions is not None
    read = Predictions.from_bytes(evaluation.predictions.to_bytes())
    assert (read.labels.dtype, read.probabilities.dtype) == (np.int64, np.float32)
    assert np.array_equal(read.labels, read_gz(fashion_dir / "t10k-labels-idx1-ubyte.gz", 8))
    assert np.allclose(read.probabilities.sum(axis=1), 1, atol=1e-5)
    confusion = confusion_matrix(read.labels, read.probabilities.argmax(axis=1))
    assert np.array_equal(confusion, evaluation.metrics.confusion)
    assert log_loss(read.labels, read.probabilities) == pytest.approx(evaluation.metrics.loss)


def test_predictions_are_stored_whatever_their_order_in_memory() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2) / 8
    stored = Predictions(
        labels=np.array([0, 1, 1, 0, 1, 0])[::2], probabilities=np.asfortranarray(rows)
    ).to_bytes()
    read = Predictions.from_bytes(stored)
    assert np.array_equal(read.probabilities, rows)
    assert read.labels.tolist() == [0, 1, 1]


def test_predicted_classes_are_those_of_the_logits_where_float32_sees_no_difference() -> None:
    logits = np.log([[0.1, 0.45, 0.45], [1 / 3, 1 / 3, 1 / 3], [0.0625, 0.9375, 1e-9]])
    logits[0, 2] += 1e-15  # as the sums of a forest's trees are rounded
    logits[1, 1] += 1e-15
    labels = np.array([2, 1, 1])
    found = Predictions.from_bytes(Predictions.of(logits, labels, 1.0).to_bytes())
    assert found.predicted.tolist() == [2, 1, 1]
    assert found.confusion() == measure(logits, labels, ("a", "b", "c")).confusion
    assert np.allclose(found.probabilities, np.exp(logits), atol=1e-6)


def test_json_reads_back(evaluation: Evaluation) -> None:
    value = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    bare = dataclasses.replace(evaluation, samples=(), predictions=None)
    assert Evaluation.from_json(value) == bare


def test_measuring_shows_nothing(
    exported: Bundle, fashion_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(exported.path.rglob("*"))
    evaluate(exported, fashion_dir)
    assert capfd.readouterr() == ("", "")
    assert sorted(exported.path.rglob("*")) == before
    assert Bundle.open(exported.path).files == exported.files


@pytest.mark.slow
def test_attaching_writes_metrics_figures_and_card(
    trained: "Trained", evaluation: Evaluation, tmp_path: Path
) -> None:
    exported = trained.export(tmp_path / "bundle")
    attached = attach(exported, evaluation, 1)
    bundle = Bundle.open(exported.path)
    assert bundle.files == attached.files
    test = bundle.metrics.test
    assert (test.evaluations, test.metrics) == (1, evaluation.metrics)
    assert test.hashes == evaluation.hashes
    assert bundle.metrics.validation == exported.metrics.validation
    assert bundle.read("model.onnx") == exported.read("model.onnx")
    card = bundle.read("MODEL_CARD.md").decode()
    assert "measured once in this study" in card
    assert f"{100 * evaluation.metrics.accuracy:.2f} %" in card
    for name in ("curves", "confusion", "samples"):
        assert f"(figures/{name}.png)" in card
        with Image.open(bundle.path / f"figures/{name}.png") as picture:
            assert min(picture.size) > 400

    attach(bundle, evaluation, 3, remark="The study was extended.")
    again = Bundle.open(exported.path)
    assert again.metrics.test.remark == "The study was extended."
    assert "optimistically biased. The study was extended." in again.read("MODEL_CARD.md").decode()
    assert again.metrics.test.evaluations == 3
    assert "measured 3 times in this study" in again.read("MODEL_CARD.md").decode()


@pytest.mark.slow
def test_an_evaluation_from_storage_needs_no_pictures(
    trained: "Trained", evaluation: Evaluation, tmp_path: Path
) -> None:
    exported = trained.export(tmp_path / "bundle")
    attach(exported, Evaluation.from_json(evaluation.to_json()), 1)
    bundle = Bundle.open(exported.path)
    assert "figures/confusion.png" in bundle.files
    assert "figures/samples.png" not in bundle.files
    assert "(figures/samples.png)" not in bundle.read("MODEL_CARD.md").decode()


@pytest.mark.slow
def test_a_full_disk_while_attaching_leaves_the_bundle(
    trained: "Trained", evaluation: Evaluation, tmp_path: Path
) -> None:
    exported = trained.export(tmp_path / "bundle")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(
            InputError, match=r"cannot write the bundle .*; what is there stays as it was"
        ):
            attach(exported, evaluation, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Bundle.open(exported.path).files == exported.files
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def linked(fashion_dir: Path, folder: Path) -> Path:
    """A copy of the data directory whose files can be replaced one by one."""
    folder.mkdir()
    for path in fashion_dir.iterdir():
        (folder / path.name).symlink_to(path.resolve())
    return folder


def test_altered_or_missing_test_files_are_refused(
    exported: Bundle, fashion_dir: Path, tmp_path: Path
) -> None:
    folder = linked(fashion_dir, tmp_path / "data")
    path = folder / "t10k-images-idx3-ubyte.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[5000] ^= 1
    path.unlink()
    with pytest.raises(InputError, match="must hold t10k-images-idx3-ubyte"):
        evaluate(exported, folder)
    path.write_bytes(gzip.compress(bytes(data), 1))
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.gz is altered: expected SHA-256"):
        evaluate(exported, folder)


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())


@pytest.fixture
def own(trained: "Trained", tmp_path: Path) -> tuple[Path, Bundle]:
    """A person's own data set of three classes, and a bundle trained on it."""
    folder = tmp_path / "own"
    folder.mkdir()
    chosen = np.flatnonzero(trained.data.labels < 3)
    images, labels = np.array(trained.data.images[chosen]), trained.data.labels[chosen]
    for name, part in (("train", slice(0, 800)), ("t10k", slice(800, 1000))):
        write_idx(folder / f"{name}-images-idx3-ubyte", images[part])
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels[part].astype(np.uint8))
    data = load_training(folder, known=False)
    part = split_data(data)
    result = train(trained.network, trained.training, data, part, seed=1)
    provenance = dataclasses.replace(trained.provenance, value=result.val_accuracy)
    own = dataclasses.replace(trained, data=data, split=part, result=result, provenance=provenance)
    return folder, own.export(tmp_path / "bundle")


@pytest.mark.slow
def test_a_data_set_of_ones_own(own: tuple[Path, Bundle], fashion_dir: Path) -> None:
    folder, bundle = own
    evaluation = evaluate(bundle, folder)
    assert evaluation.metrics.n == 200
    assert evaluation.metrics.classes == ("0", "1", "2")
    assert evaluation.metrics.accuracy > 0.4  # better than guessing one of three
    with pytest.raises(
        InputError, match=r"train-images-idx3-ubyte.gz is altered: expected SHA-256"
    ):
        evaluate(bundle, fashion_dir)


@pytest.mark.slow
def test_test_files_that_do_not_fit_are_refused(own: tuple[Path, Bundle]) -> None:
    folder, bundle = own
    write_idx(folder / "t10k-labels-idx1-ubyte", np.full(200, 3, np.uint8))
    with pytest.raises(InputError, match="need test labels below 3"):
        evaluate(bundle, folder)
    write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(199, np.uint8))
    with pytest.raises(InputError, match=r"need test images \(n, 28, 28\) and labels \(n,\)"):
        evaluate(bundle, folder)


@pytest.mark.slow
def test_no_other_module_names_the_test_images() -> None:
    """files.py has their names and hashes, for `verify`, which hashes the files; nobody else."""
    package = Path(fmnist_hpo.__file__).parent
    naming = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and "t10k" in str(node.value)
    }
    assert naming == {"files.py", "evaluation.py"}
