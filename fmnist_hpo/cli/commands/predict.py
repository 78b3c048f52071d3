"""`predict`: classify images with a bundle."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.predict import Prediction, predict
from fmnist_hpo.cli.arguments import BUNDLE_HELP
from fmnist_hpo.data.images import Images, read_images
from fmnist_hpo.errors import printable
from search.cli.application import Application
from search.cli.arguments import path, positive
from search.cli.json_output import print_json

EXAMPLE = "{prog} predict runs/quick/bundle shoe.png"
TOP = 4  # classes shown of each image
SOME_REFUSED = 1  # exit code: some files are no images, the others were classified


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("bundle", type=path, metavar="BUNDLE", help=BUNDLE_HELP)
    parser.add_argument(
        "images",
        type=path,
        nargs="+",
        metavar="IMAGE",
        help="a picture, an .npy or idx file, or a folder of them; exit code 1 if some are no "
        "images, 2 if none is one",
    )
    parser.add_argument(
        "--top", type=positive, default=TOP, metavar="K", help=f"show K classes (default: {TOP})"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead")


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    bundle = Bundle.open(args.bundle)
    images = read_images(args.images, bundle.config.image_size)
    predictions = predict(bundle, images.pixels)
    for line in (*images.passed_over, *map(str, images.refused)):
        print(printable(line), file=sys.stderr)
    if args.json:
        print_json(_as_json(images, predictions, bundle, args.top))
    else:
        for line in _lines(images, predictions, bundle, args.top):
            print(printable(line))
    return SOME_REFUSED if images.refused else 0


def _lines(
    images: Images, predictions: Sequence[Prediction], bundle: Bundle, top: int
) -> Iterator[str]:
    for name, steps, prediction in zip(images.names, images.steps, predictions, strict=True):
        shares = list(islice(prediction.probabilities.items(), top))
        if bundle.config.has_probabilities:
            first, *others = [f"{label} {100 * share:.1f} %" for label, share in shares]
        else:  # decision values only rank the classes
            first, *others = [label for label, _ in shares]
        after = f" ({', '.join(others)})" if others else ""
        yield f"{name}: {first}{after}" + (f" [{'; '.join(steps)}]" if steps else "")


def _as_json(
    images: Images, predictions: Sequence[Prediction], bundle: Bundle, top: int
) -> dict[str, Any]:
    """Shares are probabilities, 0 to 1; null where the model only ranks the classes."""
    known = bundle.config.has_probabilities
    return {
        "predictions": [
            {
                "image": name,
                "class": prediction.name,
                "top": [
                    {"class": label, "probability": share if known else None}
                    for label, share in islice(prediction.probabilities.items(), top)
                ],
                "preprocessing": steps,
            }
            for name, steps, prediction in zip(images.names, images.steps, predictions, strict=True)
        ],
        "refused": [str(error) for error in images.refused],
    }
