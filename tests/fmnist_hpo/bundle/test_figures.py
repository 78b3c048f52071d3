"""The figures are pictures of what they were given: their pixels are looked at."""

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fmnist_hpo.bundle.figures import (
    BLUE,
    DARK_GREEN,
    DARK_VERMILLION,
    INK,
    VERMILLION,
    Sample,
    choose_samples,
    draw_confusion,
    draw_curves,
    draw_samples,
)
from fmnist_hpo.bundle.predictions import Predictions
from fmnist_hpo.metrics import Metrics


def pixels(png: bytes) -> NDArray[np.uint8]:
    """(rows, columns, 3)"""
    return np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB"))


def where(picture: NDArray[np.uint8], colour: str) -> NDArray[np.intp]:
    """(m, 2): rows and columns of the pixels of a colour."""
    rgb = [int(colour[index : index + 2], 16) for index in (1, 3, 5)]
    return np.argwhere((picture == rgb).all(axis=-1))


@pytest.mark.slow
def test_curves_show_both_parts_where_both_are_there() -> None:
    train = {"train_loss": [0.6, 0.4, 0.3], "train_accuracy": [0.8, 0.85, 0.9]}
    both = train | {"val_loss": [0.5, 0.45, 0.4], "val_accuracy": [0.82, 0.84, 0.86]}
    with_validation, without = pixels(draw_curves(both, "t")), pixels(draw_curves(train, "t"))
    assert len(where(with_validation, BLUE)) > 100
    assert len(where(with_validation, VERMILLION)) > 100
    assert len(where(without, BLUE)) > 100
    assert len(where(without, VERMILLION)) == 0
    assert with_validation.shape[1] > 1200


def test_names_are_drawn_as_they_are_written() -> None:
    """Matplotlib would take them for formulas, and these for wrong ones."""
    name = "lr $10^$ more"
    found = replace(metrics(np.eye(2, dtype=int)), classes=(name, "b$^$"))
    assert pixels(draw_confusion(found, name)).shape[1] > 300
    curves = {"train_loss": [0.6, 0.4], "train_accuracy": [0.8, 0.9]}
    assert pixels(draw_curves(curves, name)).shape[1] > 300


def test_a_curve_of_one_epoch_is_drawn() -> None:
    picture = pixels(draw_curves({"train_loss": [0.6], "train_accuracy": [0.8]}, "t"))
    assert len(where(picture, BLUE)) > 20


def metrics(table: NDArray[np.integer]) -> Metrics:
    return Metrics(
        classes=tuple(f"class {index}" for index in range(len(table))),
        confusion=tuple(tuple(map(int, row)) for row in table),
        loss=0.0,
        calibration_error=0.0,
    )


def test_rows_are_true_and_columns_are_predicted_classes() -> None:
    drawn, turned = (
        {tuple(at) for at in where(pixels(draw_confusion(metrics(table), "t")), "#08306b")}
        for table in (np.array([[0, 9], [0, 0]]), np.array([[0, 0], [9, 0]]))
    )  # #08306b: the map's shade of 100 %
    upper_right = np.mean(list(drawn - turned), axis=0)
    lower_left = np.mean(list(turned - drawn), axis=0)
    assert upper_right[0] < lower_left[0] - 50
    assert upper_right[1] > lower_left[1] + 50


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 10, 40])
def test_a_confusion_matrix_of_any_number_of_classes(count: int) -> None:
    picture = pixels(draw_confusion(metrics(np.eye(count, dtype=int) * 7), "t"))
    assert min(picture.shape[:2]) > 600


def test_a_class_without_images_is_drawn_empty() -> None:
    table = np.array([[5, 0], [0, 0]])
    assert len(where(pixels(draw_confusion(metrics(table), "t")), "#08306b")) > 100


@pytest.mark.parametrize(("right", "wrong"), [(24, 24), (3, 0), (0, 1), (9, 2)])
def test_every_sample_is_on_the_sheet(right: int, wrong: int) -> None:
    samples = [
        Sample(
            pixels=np.full((28, 28), 77, np.uint8),
            truth="Shirt",
            predicted="Shirt" if index < right else "Coat",
            confidence=0.5,
        )
        for index in range(right + wrong)
    ]
    picture = pixels(draw_samples(samples, "t"))
    one = len(where(pixels(draw_samples(samples[:1], "t")), "#4d4d4d"))
    assert len(where(picture, "#4d4d4d")) > 0.6 * one * len(samples)
    assert (len(where(picture, BLUE)) > 0) == (right > 0)  # the headings
    assert (len(where(picture, DARK_VERMILLION)) > 0) == (wrong > 0)


def test_decision_values_are_not_shown_as_probabilities() -> None:
    shares = np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]], np.float32)
    predictions = Predictions(labels=np.array([0, 1, 1]), probabilities=shares)
    images = np.zeros((3, 28, 28), np.uint8)

    def sheet(has_probabilities: bool) -> tuple[Sample, ...]:
        return choose_samples(
            images, predictions, ("Bag", "Coat"), has_probabilities=has_probabilities
        )

    known, unknown = sheet(True), sheet(False)
    assert [one.predicted for one in known] == [one.predicted for one in unknown]
    assert {one.confidence for one in unknown} == {None}
    ink = [len(where(pixels(draw_samples(one, "t")), INK)) for one in (known, unknown)]
    assert ink[0] > ink[1]


def test_a_sheet_is_legible_on_a_light_and_on_a_dark_page() -> None:
    sample = Sample(
        pixels=np.full((28, 28), 77, np.uint8), truth="Bag", predicted="Bag", confidence=0.5
    )
    picture = Image.open(io.BytesIO(draw_samples([sample], "t")), formats=["PNG"]).convert("RGBA")
    assert picture.getchannel("A").getextrema() == (255, 255)  # it hides the page
    shown = np.asarray(picture.convert("RGB"))
    assert len(where(shown, "#ffffff")) > 0.7 * picture.width * picture.height
    assert len(where(shown, INK)) > 10
    for words in (INK, BLUE, DARK_VERMILLION, DARK_GREEN):
        assert 1.05 / (luminance(words) + 0.05) > 4.5


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_same_figures_are_the_same_bytes() -> None:
    curves = {"train_loss": [0.6, 0.4], "train_accuracy": [0.8, 0.9]}
    assert draw_curves(curves, "t") == draw_curves(curves, "t")


@pytest.mark.slow
def test_no_state_of_pyplot_is_touched() -> None:
    program = (
        "import sys; from fmnist_hpo.bundle.figures import draw_curves;"
        "draw_curves({'train_loss': [1.0], 'train_accuracy': [0.5]}, 't');"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
