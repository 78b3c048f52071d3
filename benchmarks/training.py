"""Images per second of our training loop against the loop of case 4, side by side in one run.

    python benchmarks/training.py                         # all 48,000 training images, 3 repeats
    python benchmarks/training.py --images 6000 --repeats 1      # a quick look

Case 4's loop: torchvision's data set, ToTensor and Normalize for every image, a DataLoader (the
best of 0, 1 and 2 workers, chosen on a slice), float32, Adam. Both train the same architectures, in
turn, as one process of two threads and as two processes of one thread. A rate is an epoch's images
by its seconds, without validation; two processes' rates are added. Nothing is written.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NETWORKS: dict[str, dict[str, Any]] = {
    "ANN 784-256-128-10": {"family": "ann", "dropout": 0.3},
    "CNN 32-64": {"family": "cnn", "dense_dropout": 0.5},
}
BATCH_SIZES = (64, 256)
LOADER_WORKERS = (0, 1, 2)
SLICE = 6000  # images on which the reference's number of workers is chosen, and each loop warms up
MEGABYTE = 1e6


def ours(params: dict[str, Any]) -> Callable[[int], float]:
    """A function that trains on so many images, once each, and returns images per second."""
    import numpy as np

    from fmnist_hpo import data
    from fmnist_hpo.networks import config, training

    everything = data.load_training(data.find())
    part = data.split(everything)
    nothing = np.array([], dtype=np.int64)

    def rate(images: int) -> float:
        shown = dataclasses.replace(part, train=part.train[:images], validation=nothing)
        network, how = config.parse(params | {"epochs": 1})
        return training.train(network, how, everything, shown, seed=0).history[0].images_per_second

    return rate


def case_4(params: dict[str, Any], workers: int, root: Path) -> Callable[[int], float]:
    """The same of the reference."""
    import torch
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    from fmnist_hpo import data

    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    dataset = FashionMNIST(str(root), train=True, transform=to_tensor)
    train = data.split(data.load_training(data.find())).train
    network = plain_network(params["family"])
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)

    def rate(images: int) -> float:
        subset = Subset(dataset, train[:images].tolist())
        loader = DataLoader(subset, params["batch_size"], shuffle=True, num_workers=workers)
        started = time.perf_counter()
        running_loss, correct = 0.0, 0
        network.train()
        for inputs, labels in loader:
            optimizer.zero_grad()
            outputs = network(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(labels)
            correct += (outputs.argmax(1) == labels).sum().item()
        return len(subset) / (time.perf_counter() - started)

    return rate


def plain_network(family: str) -> "torch.nn.Sequential":
    """Case 4's network of torch's own layers in the usual order, without what ours does to them."""
    from torch import nn

    if family == "ann":
        return nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.3)),
            nn.Linear(128, 10),
        )
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(128, 10),
    )


def serve(order: dict[str, Any]) -> None:
    """In a child: build the loop, warm it up, then answer each number of images with a rate."""
    import torch

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    torch.set_num_threads(order["threads"])
    if order["loop"] == "ours":
        rate = ours(order["params"])
    else:
        rate = case_4(order["params"], order["workers"], Path(order["root"]))
    rate(SLICE)
    print("ready", flush=True)
    for line in sys.stdin:
        answer = rate(int(line))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([answer, (peak - imported) / MEGABYTE]), flush=True)


class Team:
    """Processes of one loop that work at the same time."""

    def __init__(self, processes: int, order: dict[str, Any]) -> None:
        # Threads that wait by spinning take a hundred times as long when something else runs too.
        threads = {"OMP_NUM_THREADS": str(order["threads"]), "OMP_WAIT_POLICY": "PASSIVE"}
        self.children = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | threads,
            )
            for _ in range(processes)
        ]
        self.memory = 0.0  # MB above the import of torch, the most of one process
        for child in self.children:
            _pipe(child.stdout).readline()

    def rate(self, images: int) -> float:
        """Images per second of all processes together."""
        for child in self.children:
            _pipe(child.stdin).write(f"{images}\n")
            _pipe(child.stdin).flush()
        answers = [json.loads(_pipe(child.stdout).readline()) for child in self.children]
        self.memory = max(memory for _, memory in answers)
        return float(sum(rate for rate, _ in answers))

    def dismiss(self) -> None:
        for child in self.children:
            _pipe(child.stdin).close()
            child.wait()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def best_workers(processes: int, order: dict[str, Any]) -> int:
    rates = {}
    for workers in LOADER_WORKERS:
        team = Team(processes, order | {"workers": workers})
        rates[workers] = team.rate(SLICE)
        team.dismiss()
    return max(rates, key=lambda workers: rates[workers])


def compare(
    name: str, batch_size: int, processes: int, images: int, repeats: int, root: str
) -> None:
    """Print one row of the table."""
    order = {
        "params": NETWORKS[name] | {"batch_size": batch_size},
        "threads": 2 // processes,
        "root": root,
    }
    reference = order | {"loop": "case 4"}
    workers = best_workers(processes, reference)
    theirs = Team(processes, reference | {"workers": workers})
    mine = Team(processes, order | {"loop": "ours"})
    pairs = [(theirs.rate(images), mine.rate(images)) for _ in range(repeats)]
    memory = mine.memory
    theirs.dismiss()
    mine.dismiss()
    ratios = sorted(our / their for their, our in pairs)
    their, our = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"| {name} | {batch_size} | {processes} x {2 // processes} | {their:,.0f} ({workers}) "
        f"| {our:,.0f} | {statistics.median(ratios):.1f} | {ratios[0]:.1f}-{ratios[-1]:.1f} "
        f"| {memory:.0f} |",
        flush=True,
    )


def two_against_one(name: str, images: int, repeats: int) -> None:
    order = {"loop": "ours", "threads": 1, "params": NETWORKS[name] | {"batch_size": 64}}
    one, two = Team(1, order), Team(2, order)
    ratios = []
    for _ in range(repeats):
        alone = one.rate(images)
        ratios.append(two.rate(images) / alone)
    one.dismiss()
    two.dismiss()
    ratios.sort()
    print(
        f"Two workers of one thread against one, {name}, batch 64: "
        f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f}-{ratios[-1]:.2f})",
        flush=True,
    )


def torchvision_root(directory: Path) -> str:
    """The verified training files where torchvision looks; stand-ins for the test files."""
    from fmnist_hpo import data
    from fmnist_hpo.data import files, idx

    raw = directory / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    source = data.find()
    for file in files.FILES:
        if file in (files.IMAGES, files.LABELS):
            mapped, _ = idx.open_idx(idx.locate(source, file), files.FILES[file])
            (raw / file).symlink_to(Path(str(mapped.filename)))  # type: ignore[attr-defined]
        else:
            (raw / file).touch()
    return str(directory)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=48_000, help="of the training part")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        serve(json.loads(arguments.child))
        return
    from fmnist_hpo.environment import describe_torch

    print(", ".join(f"{key} {value}" for key, value in describe_torch().items()))
    print(
        f"n = {arguments.repeats} of {arguments.images:,} images; load {os.getloadavg()[0]:.1f}\n"
    )
    print(
        "| network | batch | processes x threads | case 4, images/s (loader workers) "
        "| ours, images/s | ratio, median | min-max | peak above torch, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        root = torchvision_root(Path(directory))
        for name in arguments.networks:
            for batch_size in BATCH_SIZES:
                for processes in (1, 2):
                    compare(name, batch_size, processes, arguments.images, arguments.repeats, root)
    print()
    for name in arguments.networks:
        two_against_one(name, arguments.images, arguments.repeats)


if __name__ == "__main__":
    main()
