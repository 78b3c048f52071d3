"""Image files of any kind to arrays as the networks were trained on: grey, light on dark, small."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.data.idx import open_idx
from fmnist_hpo.errors import InputError

__all__ = ["Images", "read_images"]

Grey = NDArray[np.uint8]

KINDS = "PNG, JPEG, .npy or idx (also .gz)"
NPY, IDX = b"\x93NUMPY", b"\x00\x00\x08"  # what the files start with; 8: unsigned bytes
LIGHT = 127  # a background above this grey value is light: the middle of 0 to 255


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images ready for a model."""

    pixels: Grey  # (n, rows, columns)
    names: tuple[str, ...]  # of each image: its file, and its index where a file holds several
    preprocessing: str  # one sentence on what was done to them


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One file's images before they are made fit."""

    name: str
    pixels: Grey  # (n, rows, columns)
    steps: frozenset[str]  # what decoding had to do, in words


def read_images(paths: Sequence[Path], image_size: tuple[int, int]) -> Images:
    """Read PNG, JPEG, .npy and idx files, told apart by their content.

    Colours become grey (ITU-R 601 luma, transparency over white). Where the median of the border
    pixels of a file's images is light, all of them are inverted. An image of another size is
    scaled to fit (Lanczos, aspect kept) and centred on black.

    Args:
        paths: at least one file. An array is (rows, columns) or (n, rows, columns), or has one
            more axis of length 1 for the channel; its values are 0 to 255, or fractions 0 to 1.
            Three axes that end as `image_size` does are n images, whatever else they look like.
        image_size: (rows, columns) that the model takes.

    Raises:
        InputError: a file that is missing, unreadable, empty or no image.
    """
    if not paths:
        raise InputError(f"need at least one image, got none; name files: {KINDS}")
    steps: set[str] = set()
    names: list[str] = []
    stacks: list[Grey] = []
    for path in paths:
        source = _read(path, image_size)
        steps |= source.steps
        pixels = source.pixels
        if _is_light(pixels):
            pixels = 255 - pixels
            steps.add("inverted where the background was light")
        if pixels.shape[1:] != image_size:
            pixels = np.stack([_fit(image, image_size) for image in pixels])
            steps.add(
                f"scaled to fit {image_size[0]}x{image_size[1]} (Lanczos, aspect kept, "
                "centred on black)"
            )
        stacks.append(pixels)
        names += (
            [source.name]
            if len(pixels) == 1
            else [f"{source.name}[{index}]" for index in range(len(pixels))]
        )
    return Images(pixels=np.concatenate(stacks), names=tuple(names), preprocessing=_sentence(steps))


def _sentence(steps: set[str]) -> str:
    return f"Preprocessing: {'; '.join(sorted(steps))}." if steps else "Preprocessing: none needed."


def _is_light(pixels: Grey) -> bool:
    """Whether the median of all border pixels of (n, rows, columns) is light."""
    border = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
    return bool(np.median(np.concatenate([edge.ravel() for edge in border])) > LIGHT)


def _fit(image: Grey, size: tuple[int, int]) -> Grey:
    """Scale (rows, columns) to fit `size`, aspect kept, centred on black."""
    from PIL import Image

    rows, columns = size
    scale = min(rows / image.shape[0], columns / image.shape[1])
    height = min(rows, max(1, round(image.shape[0] * scale)))
    width = min(columns, max(1, round(image.shape[1] * scale)))
    small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    canvas = np.zeros(size, np.uint8)
    top, left = (rows - height) // 2, (columns - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(small)
    return canvas


def _read(path: Path, image_size: tuple[int, int]) -> _Source:
    try:
        with path.open("rb") as file:
            start = file.read(len(NPY))
            if path.suffix == ".gz" or start.startswith(IDX):
                return _read_idx(path)
            data = start + file.read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; name a file: {KINDS}") from error
    return _read_npy(path, data, image_size) if start == NPY else _read_picture(path, data)


def _no_image(path: Path, found: str) -> InputError:
    one_line = " ".join(found.split())  # decoders' messages may have several
    return InputError(f"need an image ({KINDS}), got {path}: {one_line}; name another file")


def _read_idx(path: Path) -> _Source:
    pixels, _ = open_idx(path)
    if pixels.ndim != 3:
        raise _no_image(path, f"an idx file of shape {pixels.shape}, labels perhaps")
    return _Source(name=str(path), pixels=pixels, steps=frozenset())


def _read_picture(path: Path, data: bytes) -> _Source:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=["PNG", "JPEG"])
            turned = ImageOps.exif_transpose(picture)
            grey, steps = _grey(turned)
    except UnidentifiedImageError as error:
        raise _no_image(path, f"{len(data)} bytes of something else") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _no_image(path, f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except Exception as error:  # a decoder raises anything on damaged bytes, struct.error as well
        raise _no_image(path, f"a damaged picture ({error})") from error
    return _Source(name=str(path), pixels=grey[None], steps=steps)


def _grey(picture: Any) -> tuple[Grey, frozenset[str]]:
    """A Pillow image to (rows, columns)."""
    from PIL import Image

    if picture.mode == "L" and "transparency" not in picture.info:
        return np.asarray(picture), frozenset()
    if picture.mode.startswith("I"):  # 16 bits a pixel
        deep = np.asarray(picture).astype(np.float64)
        return np.rint(deep * (255 / 65535)).astype(np.uint8), frozenset({"16 bits made 8"})
    layers = picture.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
    return np.asarray(flat.convert("L")), frozenset({"colours made grey (ITU-R 601 luma)"})


def _read_npy(path: Path, data: bytes, image_size: tuple[int, int]) -> _Source:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a damaged header may be no Python, or a shape beyond the memory
        raise _no_image(path, f"an .npy file without a plain array ({error})") from error
    if array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
        array = array.squeeze(1 if array.shape[1] == 1 else 3)
    elif array.ndim == 3 and array.shape[1:] != image_size:
        rows, columns, channels = array.shape
        if channels == 1 and rows != 1:
            array = array.squeeze(2)
        elif channels in (3, 4) and min(rows, columns) > channels:
            raise _no_image(
                path,
                f"an array of shape {array.shape}, colours it seems, where grey values are due; "
                "save it as PNG",
            )
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "uif":
        raise _no_image(
            path,
            f"an array of shape {array.shape} and type {array.dtype}, where shape (rows, columns) "
            "or (n, rows, columns) and numbers are due",
        )
    if array.dtype == np.uint8:
        return _Source(name=str(path), pixels=array, steps=frozenset())
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):  # also when one of them is NaN
        raise _no_image(path, f"values from {low} to {high}, where 0 to 255 or 0 to 1 are due")
    steps: frozenset[str] = frozenset()
    if array.dtype.kind == "f" and high <= 1:
        array, steps = array * 255, frozenset({"fractions made 0 to 255"})
    return _Source(name=str(path), pixels=np.rint(array).astype(np.uint8), steps=steps)
