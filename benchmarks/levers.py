"""Validation accuracy of ways to train one network, each alone, over several seeds.

    python benchmarks/levers.py --network ann --horizons 1 3 12 --seeds 3
    python benchmarks/levers.py --network cnn-quick --horizons 3 5 9 --seeds 3 --images 60000
    python benchmarks/levers.py --network cnn --recipes one-cycle "one-cycle, erase"
    python benchmarks/levers.py --network cnn-quick --recipes schedule-free --set whitening=true

A way without a horizon is one run for each seed, looked at after each number of epochs; one with a
horizon is a run of its own for each. A fifth of the images, stratified, is held out. Printed is the
mean with the standard deviation between seeds, in percent, that of the last horizon with the mean
of each image's logits and its mirror image's, and the processor seconds of an epoch of one thread.
The test images are not read.
"""

import argparse
import statistics
import sys
import time
import tomllib
from collections.abc import Mapping
from typing import Any

NETWORKS: dict[str, dict[str, Any]] = {
    "ann": {
        "family": "ann",
        "hidden_units_0": 256,
        "hidden_units_1": 128,
        "dropout": 0.1,
        "batch_norm": True,
        "flip": True,
        "batch_size": 128,
        "weight_decay": 0.01,
    },
    "cnn": {
        "family": "cnn",
        "blocks": 3,
        "convolutions": 2,
        "shortcut": True,
        "channels_0": 24,
        "channels_1": 48,
        "channels_2": 96,
        "head": "average",
        "dense_layers": 0,
        "dropout": 0.05,
        "batch_norm": True,
        "flip": True,
        "shift": 1,
        "label_smoothing": 0.03,
        "batch_size": 128,
        "weight_decay": 0.03,
    },
}
NETWORKS["cnn-quick"] = NETWORKS["cnn"] | {  # that quick.toml begins with
    "pool_after": "first",
    "channels_0": 16,
    "channels_1": 32,
    "channels_2": 64,
    "dropout": 0.0,
    "shift": 0,
}
NETWORKS["cnn-quick, pooled last"] = NETWORKS["cnn-quick"] | {"pool_after": "last"}
NETWORKS["cnn-wide"] = NETWORKS["cnn"] | {
    "pool_after": "first",
    "channels_0": 48,
    "channels_1": 96,
    "channels_2": 192,
}
ONE_CYCLE = {"optimizer": "adamw", "schedule": "one-cycle", "learning_rate": 5e-3}
FREE = {"optimizer": "schedule-free", "learning_rate": 5e-3}
RECIPES: dict[str, dict[str, Any]] = {
    "schedule-free": FREE,
    "one-cycle": ONE_CYCLE,
    "average": {"optimizer": "adamw", "learning_rate": 1.5e-3, "average": 0.99},
    "muon, one-cycle": ONE_CYCLE | {"optimizer": "muon"},
    "one-cycle, erase": ONE_CYCLE | {"erase": 0.5},
    "one-cycle, flip in turn": ONE_CYCLE | {"flip_in_turn": True},
    "one-cycle, mixup": ONE_CYCLE | {"mixup": 0.2},
    "one-cycle, resize": ONE_CYCLE | {"resize": 0.5},
    "muon, one-cycle, resize": ONE_CYCLE | {"optimizer": "muon", "resize": 0.5},
    "schedule-free, resize": FREE | {"resize": 0.5},
    "schedule-free, erase": FREE | {"erase": 0.5},
    "schedule-free, flip in turn": FREE | {"flip_in_turn": True},
    "schedule-free, mixup": FREE | {"mixup": 0.2},
}
FIRST = ("schedule-free", "one-cycle", "average")


def main() -> int:
    """Train and print a row for each recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=tuple(NETWORKS), required=True)
    parser.add_argument("--recipes", nargs="+", choices=tuple(RECIPES), default=FIRST)
    parser.add_argument("--horizons", nargs="+", type=int, default=[1, 3, 12], metavar="EPOCHS")
    parser.add_argument("--seeds", type=int, default=3, help="two or more have a deviation")
    parser.add_argument("--images", type=int, default=16_000, help="to train and to validate")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter; repeatable"
    )
    args = parser.parse_args()
    given = tomllib.loads("\n".join(args.set))

    import numpy as np
    import torch

    from fmnist_hpo import data
    from fmnist_hpo.bundle.kinds import mirrored
    from fmnist_hpo.networks import training
    from fmnist_hpo.networks.config import parse
    from fmnist_hpo.networks.models import build
    from fmnist_hpo.networks.preprocessing import Preprocessing, compute_logits, normalization

    torch.set_num_threads(1)
    images = data.load_training(data.find(None))
    split = data.split(images, within=data.part(images, args.images, seed=0))
    horizons = sorted(args.horizons)

    validation = np.ascontiguousarray(images.images[split.validation])
    labels = images.labels[split.validation]

    def with_mirror_image(params: dict[str, Any], weights: Mapping[str, torch.Tensor]) -> float:
        network_config, how = parse(params)
        network = build(network_config).to(memory_format=torch.channels_last).eval()
        network.load_state_dict(weights)
        preprocessing = Preprocessing.of(how, *normalization(how.normalization, images, split))
        both = (validation, mirrored(validation))
        logits = sum(compute_logits(network, preprocessing, each) for each in both)
        return 100 * float((np.argmax(logits, 1) == labels).mean())

    def row(recipe: dict[str, Any], seed: int) -> list[float]:
        """The accuracies at the horizons, and at the last one with the mirror image."""
        params = NETWORKS[args.network] | recipe | given
        found: list[float] = []
        for epochs in horizons if "schedule" in recipe else horizons[-1:]:
            params["epochs"] = epochs
            result = training.train(*parse(params), images, split, seed=seed)
            ends = [epochs] if "schedule" in recipe else horizons
            found += [100 * (result.history[end - 1].val_accuracy or 0.0) for end in ends]
        return [*found, with_mirror_image(params, result.weights)]

    heads = [*map(str, horizons), "mirrored"]
    print(f"{'epochs':28}", *(f"{head:>14}" for head in heads), "CPU s an epoch")
    for name in args.recipes:
        began = time.process_time()
        rows = [row(RECIPES[name], seed) for seed in range(args.seeds)]
        own = sum(horizons) if "schedule" in RECIPES[name] else horizons[-1]
        seconds = (time.process_time() - began) / (args.seeds * own)
        cells = map(_cell, zip(*rows, strict=True))
        print(f"{name:28}", *(f"{cell:>14}" for cell in cells), f"{seconds:8.2f}", flush=True)
    return 0


def _cell(values: tuple[float, ...]) -> str:
    around = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):6.2f}{around}"


if __name__ == "__main__":
    sys.exit(main())
