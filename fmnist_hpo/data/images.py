"""Image files of any kind to arrays as the models were trained on: grey, light on dark, small."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmnist_hpo.data.decode import KINDS, LIGHT, Decoded, decode
from fmnist_hpo.errors import InputError

__all__ = ["Images", "read_images"]

Grey = NDArray[np.uint8]

#: Endings of the files that are taken from a folder; a file that is named is told by its content.
ENDINGS = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp"),
        *(".dib", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".ico"),
        *(".tga", ".qoi", ".npy", ".gz", ".idx"),
    }
)
SHOWN = 3  # names of a folder's other files


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images ready for a model."""

    pixels: Grey  # (n, rows, columns)
    names: tuple[str, ...]  # of each image: its file, and its index where a file holds several
    steps: tuple[tuple[str, ...], ...]  # what was done to each image, in words
    refused: tuple[InputError, ...]  # one for each file that is no image
    passed_over: tuple[str, ...]  # one line for each folder with files of other kinds


def read_images(paths: Sequence[Path], image_size: tuple[int, int]) -> Images:
    """Read files that Pillow knows, .npy and idx files; a folder means the images in it.

    Each image is judged by itself. Colours become grey (ITU-R 601 luma). An image whose border is
    light, by the median of its pixels, is inverted. A cut-out is laid on the background that makes
    it a light thing on dark, see `decode`. An image of another size is scaled to fit (Lanczos,
    aspect kept) and centred on black. A file that is no image does not end the call.

    Args:
        paths: files and folders. An array is (rows, columns), (n, rows, columns) or rows of
            pixels, or has one more axis of length 1 for the channel; its values are 0 to 255, or
            fractions 0 to 1. Three axes that end as `image_size` does are n images.
        image_size: (rows, columns) that the model takes.

    Raises:
        InputError: no file was named, or none of them is an image.
    """
    if not paths:
        raise InputError(f"need at least one image, got none; name files or folders: {KINDS}")
    names: list[str] = []
    steps: list[tuple[str, ...]] = []
    stacks: list[Grey] = [np.zeros((0, *image_size), np.uint8)]
    refused: list[InputError] = []
    passed_over: list[str] = []
    for path in paths:
        try:
            files = list(_files(path, passed_over)) if path.is_dir() else [path]
        except OSError as error:
            refused.append(InputError(f"cannot read {path}: {error.strerror}; name another file"))
            continue
        except InputError as error:
            refused.append(error)
            continue
        for file in files:
            try:
                pixels, done = _fit_all(decode(file, image_size), image_size)
            except InputError as error:
                refused.append(error)
                continue
            stacks.append(pixels)
            steps += done
            several = len(pixels) > 1
            names += [f"{file}[{index}]" if several else str(file) for index in range(len(pixels))]
    if not names:
        raise _nothing(refused)
    return Images(
        pixels=np.concatenate(stacks),
        names=tuple(names),
        steps=tuple(steps),
        refused=tuple(refused),
        passed_over=tuple(passed_over),
    )


def _nothing(refused: Sequence[InputError]) -> InputError:
    if len(refused) == 1:
        return refused[0]
    return InputError(f"none of {len(refused)} files is an image; the first: {refused[0]}")


def _files(folder: Path, passed_over: list[str]) -> Iterator[Path]:
    """The images below a folder, by name.

    Raises:
        InputError: there is none, or the folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"cannot read {error.filename}: {error.strerror}; check its permissions"
        ) from error

    found: list[Path] = []
    others: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                is_image = Path(name).suffix.lower() in ENDINGS or name.endswith("-ubyte")
                (found if is_image else others).append(Path(place) / name)
    if not found:
        raise InputError(
            f"need images in the folder {folder}, found {len(others)} other files; name a folder "
            f"of images: {KINDS}"
        )
    if others:
        more = ", ..." if len(others) > SHOWN else ""
        passed_over.append(
            f"{folder}: passed over {len(others)} files that are no images by their names "
            f"({', '.join(path.name for path in others[:SHOWN])}{more})"
        )
    yield from found


def _fit_all(decoded: Decoded, image_size: tuple[int, int]) -> tuple[Grey, list[tuple[str, ...]]]:
    """Images as the model takes them, and what was done to each."""
    pixels = decoded.pixels
    light = np.zeros(len(pixels), bool) if decoded.inverted else _are_light(pixels)
    scaled = pixels.shape[1:] != image_size
    fitted = np.empty((len(pixels), *image_size), np.uint8)
    for index, image in enumerate(pixels):
        upright = 255 - image if light[index] else image
        fitted[index] = _fit(upright, image_size) if scaled else upright
    rows, columns = image_size
    after = [f"scaled to fit {rows}x{columns} (Lanczos, aspect kept, centred on black)"]
    inverted = ["inverted, as its background is light"]
    return fitted, [
        (*decoded.steps, *(inverted if one else []), *(after if scaled else [])) for one in light
    ]


def _are_light(pixels: Grey) -> NDArray[np.bool_]:
    """(n,): whether the median of an image's border pixels is light.

    Of the 60,000 training images of Fashion-MNIST, all on black, 2 are light by this rule.
    """
    border = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
    light: NDArray[np.bool_] = np.median(np.concatenate(border, axis=1), axis=1) > LIGHT
    return light


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
