"""The `[data]` table on small data sets of the tests' own."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fmnist_hpo.data.dataset import IMAGES, LABELS
from fmnist_hpo.problem import FashionProblem
from search.errors import ProblemError


def write_data(directory: Path, labels: NDArray[np.int64], size: tuple[int, int] = (8, 8)) -> str:
    """Write black images with these labels; the directory as `[data]` has it."""
    for name, values in ((IMAGES, np.zeros((len(labels), *size))), (LABELS, labels)):
        head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, dtype=">u4").tobytes()
        (directory / name).write_bytes(head + values.astype(np.uint8).tobytes())
    return str(directory)


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (0.2, "an image to validate, got none of 6 with data.validation_fraction = 0.2; raise it"),
        (0.9, "to train, got none of class '0' with validation_fraction = 0.9; lower it"),
    ],
)
def test_a_split_without_images_to_validate_or_to_train_is_refused(
    tmp_path: Path, fraction: float, said: str
) -> None:
    directory = write_data(tmp_path, np.arange(6) % 3)
    problem = FashionProblem({"dir": directory, "validation_fraction": fraction})
    with pytest.raises(ProblemError, match=said) as caught:
        problem.splits  # noqa: B018
    assert "\n" not in str(caught.value)


def test_a_split_that_trains_no_image_of_a_class_is_refused(tmp_path: Path) -> None:
    labels = np.array([0] * 20 + [2] * 20 + [1])
    problem = FashionProblem({"dir": write_data(tmp_path, labels), "validation_fraction": 0.5})
    with pytest.raises(ProblemError, match=r"got none of class '1' with validation_fraction = 0.5"):
        problem.splits  # noqa: B018
    # With less to validate the only image of that class trains.
    problem = FashionProblem({"dir": problem.directory.as_posix(), "validation_fraction": 0.4})
    assert problem.describe_split() == "25 to train, 16 to validate"


def test_the_fewest_images_that_can_be_split(tmp_path: Path) -> None:
    directory = write_data(tmp_path, np.arange(6) % 3)
    problem = FashionProblem({"dir": directory, "validation_fraction": 0.5})
    assert problem.describe_split() == "3 to train, 3 to validate"


def test_images_too_small_to_be_whitened_are_refused_before_anything_runs(tmp_path: Path) -> None:
    problem = FashionProblem({"dir": write_data(tmp_path, np.arange(60) % 3, size=(1, 9))})
    params = {"family": "cnn", "epochs": 2}
    problem.check(params)
    with pytest.raises(ProblemError, match=r"images of at least 2x2, got \(1, 9\); leave"):
        problem.check(params | {"whitening": True})
    with pytest.raises(ProblemError, match="at least 2x2"):
        problem.refit_params(params, {"whitening": True})


@pytest.mark.parametrize("wrong", [20, 1, 0.0, 1.0, -0.1, float("nan"), True, "0.2"])
def test_what_is_no_fraction_is_refused(wrong: object) -> None:
    with pytest.raises(ProblemError, match=r"need a number 0 < data.validation_fraction < 1, got "):
        FashionProblem({"validation_fraction": wrong})


@pytest.mark.parametrize("wrong", ["", 3, True])
def test_what_is_no_folder_is_refused(wrong: object) -> None:
    with pytest.raises(ProblemError, match=r"data.dir must be a path in quotes, got .*; name a"):
        FashionProblem({"dir": wrong})


def test_a_reshuffled_problem_has_another_split_of_the_same_images(tmp_path: Path) -> None:
    directory = write_data(tmp_path, np.arange(60) % 3)
    settings = {"dir": directory, "tune_on": 30, "split_seed": 7}
    problem = FashionProblem(settings)
    first, again, second = (problem.reshuffled(n) for n in (0, 0, 1))
    other = FashionProblem(settings).reshuffled(1)  # of another process
    assert first.data is problem.data
    splits = [one.splits[0] for one in (problem, first, second)]
    assert len({split.hash for split in splits}) == 3
    for split in splits:
        everything = np.sort(np.concatenate([split.train, split.validation]))
        assert everything.tolist() == problem.tuned_on.tolist()
        assert np.bincount(problem.data.labels[split.validation]).tolist() == [2, 2, 2]
    assert again.fingerprint() == first.fingerprint()
    assert other.fingerprint() == second.fingerprint()
    assert first.fingerprint() != problem.fingerprint()
    assert (
        FashionProblem({**settings, "split_seed": 8}).reshuffled(0).split_hash != first.split_hash
    )
