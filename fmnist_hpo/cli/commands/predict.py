"""`predict`: classify images with a bundle."""

import argparse
from pathlib import Path

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.bundle.predict import predict
from fmnist_hpo.cli.arguments import BUNDLE_HELP
from fmnist_hpo.data.images import read_images
from search.cli.application import Application

EXAMPLE = "{prog} predict runs/quick/bundle shoe.png"


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help=BUNDLE_HELP)
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, npy or idx"
    )


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    bundle = Bundle.open(args.bundle)
    images = read_images(args.images, bundle.config.image_size)
    print(images.preprocessing)
    for name, prediction in zip(images.names, predict(bundle, images.pixels), strict=True):
        if not bundle.config.has_probabilities:
            others = list(prediction.probabilities)[1:4]
            print(f"{name}: {prediction.name} (rather than {', '.join(others)})")
            continue
        shares = [f"{label} {100 * p:.1f} %" for label, p in prediction.probabilities.items()]
        print(f"{name}: {shares[0]} ({', '.join(shares[1:4])})")
    return 0
