"""Image files in: real clothes, saved in every kind of file, come back as the data set has them."""

import gzip
import os
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fmnist_hpo.data import load_training
from fmnist_hpo.data.images import read_images
from fmnist_hpo.errors import InputError

if TYPE_CHECKING:
    pass

SIZE = (28, 28)


@pytest.fixture(scope="module")
def clothes(fashion_dir: Path) -> NDArray[np.uint8]:
    """(50, 28, 28): the first of the real training images."""
    return np.array(load_training(fashion_dir).images[:50])


def refusal(path: Path) -> str:
    """The one line on a file that is no image."""
    with pytest.raises(InputError) as caught:
        read_images([path], SIZE)
    assert str(caught.value).isprintable()
    return str(caught.value)


def idx(images: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">4B{images.ndim}I", 0, 0, 8, images.ndim, *images.shape) + images.tobytes()


def test_a_png_of_28x28_is_taken_as_it_is(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(len(clothes))]
    for path, image in zip(paths, clothes, strict=True):
        Image.fromarray(image).save(path)
    images = read_images(paths, SIZE)
    np.testing.assert_array_equal(images.pixels, clothes)
    assert images.names == tuple(map(str, paths))
    assert set(images.steps) == {()}


def test_a_light_background_is_inverted(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(255 - clothes[0]).save(tmp_path / "shop.png")
    images = read_images([tmp_path / "shop.png"], SIZE)
    np.testing.assert_array_equal(images.pixels, clothes[:1])
    assert images.steps == (("inverted, as its background is light",),)


def test_few_of_the_real_images_would_be_taken_for_light(fashion_dir: Path) -> None:
    """The rule that decides on inversion, against the data set, whose background is black."""
    images = load_training(fashion_dir).images
    edges = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.mean(np.median(edges, axis=1) > 127) < 0.01


def test_colours_become_grey(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    colours = np.stack([clothes[0], clothes[1], clothes[2]], axis=-1)
    Image.fromarray(colours).save(tmp_path / "colour.png")
    images = read_images([tmp_path / "colour.png"], SIZE)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    assert np.abs(images.pixels[0] - luma).max() <= 1
    assert images.steps == (("colours made grey (ITU-R 601 luma)",),)


def test_what_is_transparent_is_background(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    """A dark thing cut out, as shops have it, comes out light on black."""
    alpha = np.where(clothes[0] > 0, 255, 0).astype(np.uint8)
    dark = 255 - clothes[0]
    Image.fromarray(np.stack([dark, dark, dark, alpha], axis=-1)).save(tmp_path / "cut-out.png")
    images = read_images([tmp_path / "cut-out.png"], SIZE)
    np.testing.assert_array_equal(images.pixels, clothes[:1])


def test_16_bits_become_8(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(clothes[0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    images = read_images([tmp_path / "deep.png"], SIZE)
    np.testing.assert_array_equal(images.pixels, clothes[:1])
    assert images.steps == (("16 bits made 8",),)


def test_a_large_jpeg_is_scaled(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    large = Image.fromarray(clothes[0]).resize((280, 280), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.jpg", quality=95)
    images = read_images([tmp_path / "large.jpg"], SIZE)
    assert np.abs(images.pixels[0].astype(int) - clothes[0]).mean() < 4
    assert images.steps == (("scaled to fit 28x28 (Lanczos, aspect kept, centred on black)",),)


def test_a_tall_picture_keeps_its_aspect(tmp_path: Path) -> None:
    tall = np.zeros((560, 140), np.uint8)
    tall[:, 20:120] = 200
    Image.fromarray(tall).save(tmp_path / "tall.png")
    pixels = read_images([tmp_path / "tall.png"], SIZE).pixels[0]
    columns = np.flatnonzero(pixels.any(axis=0))
    assert pixels.any(axis=1).all()
    assert columns[0] >= 10
    assert columns[-1] <= 17  # 140 x 28 / 560 = 7 columns in the middle


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])  # of 90 degrees
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_turned_photograph_is_put_upright(
    clothes: NDArray[np.uint8], tmp_path: Path, kind: str, orientation: int, turns: int
) -> None:
    exif, upright, path = Image.Exif(), clothes[0, :, 4:24], tmp_path / f"turned.{kind}"
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(upright, turns)).save(path, exif=exif)
    found = read_images([path], (28, 20))
    np.testing.assert_array_equal(found.pixels[0], upright)
    assert found.steps == (("turned upright as its EXIF orientation says",),)


def test_a_photograph_with_a_damaged_exif_is_one_line(
    clothes: NDArray[np.uint8], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x829A] = 6, "hello", 1.5  # orientation, title, exposure
    path = tmp_path / "turned.jpg"
    Image.fromarray(clothes[0]).save(path, exif=exif)
    data = bytearray(path.read_bytes())
    data[data.index(b"Exif") + 17] = 0  # the title has another tag, whose values are numbers
    path.write_bytes(data)
    assert re.search("a damaged picture.*; name another file", refusal(path))


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_idx_files(clothes: NDArray[np.uint8], tmp_path: Path, name: str) -> None:
    data = idx(clothes)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    images = read_images([tmp_path / name], SIZE)
    np.testing.assert_array_equal(images.pixels, clothes)
    assert images.names[7] == f"{tmp_path / name}[7]"
    assert set(images.steps) == {()}


def test_arrays_of_every_shape_and_type(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array in (
        clothes,
        clothes[:, None],
        clothes[..., None],
        clothes.astype(np.int64),
        clothes.astype(np.float64),
        clothes / np.float32(255),
    ):
        np.save(path, array)
        np.testing.assert_array_equal(read_images([path], SIZE).pixels, clothes)
    np.save(path, clothes[0])
    assert read_images([path], SIZE).names == (str(path),)


def test_a_last_axis_of_one_is_the_channel(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, clothes[0][..., None])
    images = read_images([path], SIZE)
    np.testing.assert_array_equal(images.pixels, clothes[:1])
    assert images.names == (str(path),)
    np.save(path, clothes[0][..., None])
    assert read_images([path], (28, 1)).pixels.shape == (28, 28, 1)  # 28 images of the right size


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_in_an_array_are_refused(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((28, 28, channels), np.uint8))
    assert re.search("colours it seems.*; save it as PNG", refusal(path))
    assert read_images([path], (28, channels)).pixels.shape == (28, 28, channels)


def test_files_of_several_kinds_together(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", 255 - clothes[:2])
    Image.fromarray(clothes[2]).save(tmp_path / "b.png")
    images = read_images([tmp_path / "a.npy", tmp_path / "b.png"], SIZE)
    np.testing.assert_array_equal(images.pixels, clothes[:3])


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("height", [1_000, 100_000])
def test_a_decompression_bomb_is_not_decoded(tmp_path: Path, height: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png(100_000, height))
    assert "more than 89,478,485 pixels" in refusal(tmp_path / "bomb.png")


def test_what_is_no_image_is_one_line(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(clothes[0]).save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(783))
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "nan.npy", np.full((28, 28), np.nan))
    np.save(tmp_path / "normal.npy", np.full((28, 28), -1.0))
    np.save(tmp_path / "none.npy", np.zeros((0, 28, 28)))
    broken = {
        "text.png": b"not an image",
        "empty.png": b"",
        "cut.png": good[: len(good) // 2],
        "cut.npy": b"\x93NUMPY\x01",
        "cut.gz": gzip.compress(idx(clothes))[:-20],
        "short-idx3-ubyte": idx(clothes)[:-1],
        "labels-idx1-ubyte": idx(np.zeros(5, np.uint8)),
        "hollow.png": png(28, 28),
        "gif.png": b"GIF89a" + bytes(30),
        "drawing.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    for index, shape in enumerate(["(2,", "(10**9,)", f"({10**14}, 10)", f"({10**22}, 10)"]):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        (tmp_path / f"header-{index}.npy").write_bytes(start + header)
    bad = [path for path in tmp_path.iterdir() if path.name != "good.png"]
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty").mkdir()
    more = [tmp_path / name for name in ("absent.png", "pipe.png", "empty")]
    for path in [*bad, *more, Path("/dev/zero")]:
        images = read_images([tmp_path / "good.png", path], SIZE)
        assert images.names == (str(tmp_path / "good.png"),)  # one bad file does not end the call
        (error,) = images.refused
        message = str(error)
        assert message.isprintable()
        assert str(path) in message
        assert ";" in message  # and a remedy
    with pytest.raises(InputError, match="need at least one image, got none"):
        read_images([], SIZE)


def test_every_format_that_people_have(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    for ending, options in (
        ("webp", {"lossless": True}), ("bmp", {}), ("tif", {}), ("gif", {}), ("pgm", {}),
        ("tga", {}), ("jp2", {"irreversible": False}),
        ("ico", {"sizes": [SIZE], "bitmap_format": "bmp"}),
    ):  # fmt: skip
        path = tmp_path / f"a.{ending}"
        Image.fromarray(clothes[0]).save(path, **options)
        images = read_images([path], SIZE)
        assert images.refused == (), ending
        assert np.abs(images.pixels[0].astype(int) - clothes[0]).max() <= 1, ending


def test_the_first_of_several_pictures_is_taken_and_named(
    clothes: NDArray[np.uint8], tmp_path: Path
) -> None:
    first, *others = [Image.fromarray(image) for image in clothes[:3]]
    for ending in ("gif", "tif", "webp", "png"):
        path = tmp_path / f"a.{ending}"
        options = {"lossless": True} if ending == "webp" else {}
        first.save(path, save_all=True, append_images=others, **options)
        images = read_images([path], SIZE)
        assert np.abs(images.pixels[0].astype(int) - clothes[0]).max() <= 1, ending
        assert "first of several pictures in the file" in images.steps[0], ending


def test_a_folder_means_its_images(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    (tmp_path / "shop" / "shoes").mkdir(parents=True)
    Image.fromarray(clothes[0]).save(tmp_path / "shop" / "b.PNG", format="PNG")
    Image.fromarray(clothes[1]).save(tmp_path / "shop" / "shoes" / "a.png")
    for name in ("notes.txt", ".DS_Store", "shoes/prices.csv"):
        (tmp_path / "shop" / name).touch()
    (tmp_path / "shop" / "broken.jpg").write_bytes(b"no")
    images = read_images([tmp_path / "shop"], SIZE)
    assert [Path(name).name for name in images.names] == ["b.PNG", "a.png"]
    np.testing.assert_array_equal(images.pixels, clothes[:2])
    assert [str(tmp_path / "shop" / "broken.jpg") in str(error) for error in images.refused] == [
        True
    ]
    (line,) = images.passed_over
    assert "passed over 2 files" in line
    assert "notes.txt, prices.csv" in line


def test_each_image_is_judged_by_itself(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    mixed = clothes[:6].copy()
    mixed[::2] = 255 - mixed[::2]
    np.save(tmp_path / "a.npy", mixed)
    images = read_images([tmp_path / "a.npy"], SIZE)
    np.testing.assert_array_equal(images.pixels, clothes[:6])
    assert images.steps == (("inverted, as its background is light",), ()) * 3


def test_rows_of_pixels_are_images(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    said = "each row of 784 pixels taken for an image of 28x28"
    for array in (clothes.reshape(50, 784), clothes[:1].reshape(1, 784), clothes[0].ravel()):
        np.save(path, array)
        images = read_images([path], SIZE)
        np.testing.assert_array_equal(images.pixels, clothes[: len(images.pixels)])
        assert len(images.pixels) == array.size // 784
        assert set(images.steps) == {(said,)}
    np.save(path, np.zeros((300, 64), np.uint8))  # scikit-learn's digits
    images = read_images([path], SIZE)
    assert len(images.pixels) == 300
    assert "each row of 64 pixels taken for an image of 8x8" in images.steps[0]
    for shape in ((784, 784), (90, 64)):
        np.save(path, np.zeros(shape, np.uint8))
        images = read_images([path], SIZE)
        assert len(images.pixels) == 1
        assert f"taken for one picture of {shape[0]}x{shape[1]}, not for" in images.steps[0][0]


def test_zeros_and_ones_are_black_and_white(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    binary = clothes[:3] > 127
    said = "values 0 and 1 made 0 and 255"
    for kind in (bool, np.uint8, np.int64):
        np.save(tmp_path / "a.npy", binary.astype(kind))
        images = read_images([tmp_path / "a.npy"], SIZE)
        np.testing.assert_array_equal(images.pixels, binary * np.uint8(255))
        assert set(images.steps) == {(said,)}
    (tmp_path / "a-ubyte").write_bytes(idx(binary.astype(np.uint8)))
    Image.fromarray(binary[0].astype(np.uint8)).save(tmp_path / "a.png")
    images = read_images([tmp_path / "a-ubyte", tmp_path / "a.png"], SIZE)
    assert set(images.steps) == {(said,)}
    Image.fromarray(binary[0]).save(tmp_path / "mode-1.png")
    assert read_images([tmp_path / "mode-1.png"], SIZE).steps == ((),)


def test_16_bit_grey_with_a_transparent_value(clothes: NDArray[np.uint8], tmp_path: Path) -> None:
    deep = clothes[0].astype(np.uint16) * 257
    path = tmp_path / "deep.png"
    Image.fromarray(deep).save(path, transparency=0)
    images = read_images([path], SIZE)
    np.testing.assert_array_equal(images.pixels[0], clothes[0])
    assert images.steps == (("16 bits made 8", "cut-out laid on black"),)
    inverted = (255 - clothes[0]).astype(np.uint16) * 257
    Image.fromarray(inverted).save(path, transparency=65535)
    images = read_images([path], SIZE)
    np.testing.assert_array_equal(images.pixels[0], clothes[0])
    Image.fromarray(clothes[0].astype(np.uint16)).save(path)
    images = read_images([path], SIZE)
    np.testing.assert_array_equal(images.pixels[0], clothes[0])
    assert images.steps == (("16 bits a pixel, but no value above 255: taken as 0 to 255",),)


def test_a_header_is_bounded_before_anything_is_decompressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    zeros = gzip.compress(bytes(50 << 20), 1)  # of no kind at all
    small = gzip.compress(idx(np.zeros((2, 3, 3), np.uint8)) + bytes(50 << 20), 1)
    large = gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 1 << 20, 1 << 10, 1 << 10), 1)
    for data, reason in (
        (zeros, "must be an idx file"),
        (small, "needs 34 bytes, found more"),
        (large, "is too large: its header"),
    ):
        (tmp_path / "a.gz").write_bytes(data)
        assert reason in refusal(tmp_path / "a.gz")
    assert [path for path in tmp_path.rglob("cache/**/*") if path.is_file()] == []
    (tmp_path / "wide").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 1, 1, 1 << 31))
    os.truncate(tmp_path / "wide", 16 + (1 << 31))  # sparse
    assert "is too large: its header" in refusal(tmp_path / "wide")


@pytest.mark.parametrize(
    ("kind", "low"),
    [(np.int32, -5), (np.float32, -5), (np.float32, -0.25), (np.float32, float("nan"))],
)
def test_values_that_are_no_grey_values_are_refused(tmp_path: Path, kind: Any, low: float) -> None:
    pixels = np.full((28, 28), 100, kind)
    pixels[0, 0] = low
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    assert "values from" in refusal(tmp_path / "a.tiff")


def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((28, 28), np.uint8))
    exif = Image.Exif()
    for orientation, turned in ((9, False), (6, True), (1, False)):
        exif[0x0112] = orientation
        picture.save(tmp_path / "a.png", exif=exif)
        (steps,) = read_images([tmp_path / "a.png"], SIZE).steps
        assert ("turned upright as its EXIF orientation says" in steps) == turned


def test_a_path_that_cannot_be_looked_at_is_refused(closed: Path) -> None:
    assert "Permission denied" in refusal(closed / "inside" / "a.png")
