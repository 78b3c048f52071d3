"""Minutes of training until one network has a validation accuracy, in three ways, in turn.

    python benchmarks/time_to_accuracy.py      # 94 %, an hour of training each at most
    python benchmarks/time_to_accuracy.py --minutes 20 --target 92 --ways ours case-5

    ours      the network that studies/cnn.toml begins with, in this project's loop
    case-5    case 5's network with dropout in a notebook's loop: torchvision's data set, ToTensor
              and Normalize for each image, a DataLoader, float32, Adam
    airbench  Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", in plain PyTorch:
              whitened first layer, identity initialisation, scaled biases, Lookahead,
              alternating flip

Each is one process with a thread for each core. 48,000 images train, 12,000 validate. After each
epoch all are validated alike, without a mirror image, and the time of that does not count. The
first epoch that has the accuracy ends a way. The test images are not read.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training import LOADER_WORKERS, torchvision_root

from fmnist_hpo import data
from fmnist_hpo.environment import describe_torch
from fmnist_hpo.networks import training
from fmnist_hpo.networks.config import parse
from fmnist_hpo.networks.layers import Whitening

STUDY = Path(__file__).parent.parent / "studies" / "cnn.toml"
EPOCHS = 40  # of the ways that have no horizon
SLICE = 50  # batches on which the number of loader workers is chosen
Measured = Iterator[tuple[float, float]]  # seconds of training so far, validation accuracy


def ours(seed: int) -> Measured:
    """The network and the training of the first named trial of `studies/cnn.toml`."""
    spec = tomllib.loads(STUDY.read_text())
    params = spec["fixed"] | spec["trials"][0]["params"] | {"epochs": EPOCHS, "report_every": 1.0}
    everything = data.load_training(data.find())
    part = data.split(everything)
    seconds = 0.0
    for epoch in training.epochs(*parse(params), everything, part, seed=seed):
        seconds += len(part.train) / epoch.metrics.images_per_second
        assert epoch.metrics.val_accuracy is not None
        yield seconds, epoch.metrics.val_accuracy


def case_5(seed: int) -> Measured:
    """Filters 32, 64, 128, LeakyReLU, dropout 0.25, 0.25, 0.4 and 0.3; Adam, batches of 64."""
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    torch.manual_seed(seed)
    blocks = zip((1, 32, 64), (32, 64, 128), (0.25, 0.25, 0.4), strict=True)
    network = nn.Sequential(
        *itertools.chain.from_iterable(
            (nn.Conv2d(i, o, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Dropout(p))
            for i, o, p in blocks
        ),
        nn.Flatten(),
        *(nn.Linear(128 * 3 * 3, 128), nn.LeakyReLU(0.1), nn.Dropout(0.3), nn.Linear(128, 10)),
    )
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(network.parameters(), lr=0.001)
    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    train, images, labels = _parts()
    with tempfile.TemporaryDirectory() as directory:
        root = torchvision_root(Path(directory))
        subset = Subset(FashionMNIST(root, train=True, transform=to_tensor), train.tolist())

        def epoch(workers: int, batches: int | None = None) -> float:
            loader = DataLoader(subset, batch_size=64, shuffle=True, num_workers=workers)
            began = time.perf_counter()
            for inputs, targets in itertools.islice(loader, batches):
                optimizer.zero_grad()
                loss = criterion(network(inputs), targets)
                loss.backward()
                optimizer.step()
                loss.item()
            return time.perf_counter() - began

        # Chosen by time alone; the few steps are a part of the training, and count.
        tried = {workers: epoch(workers, SLICE) for workers in LOADER_WORKERS}
        workers, seconds = min(tried, key=lambda key: tried[key]), sum(tried.values())
        while True:
            network.train()
            seconds += epoch(workers)
            yield seconds, _accuracy(network, images / 127.5 - 1, labels)


def airbench(seed: int) -> Measured:
    """The recipe of airbench94, its figures and its 9.9 epochs, on images of one channel."""
    torch.manual_seed(seed)
    train, validation, validation_labels = _parts()
    everything = data.load_training(data.find())
    images = torch.from_numpy(everything.images[train].astype(np.float32) / 255).unsqueeze(1)
    labels = torch.from_numpy(everything.labels[train])
    mean, deviation = images.mean(), images.std()
    images = ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)
    validation = (validation / 255 - mean) / deviation
    began = time.perf_counter()
    network = AirbenchNetwork(images[:5000]).to(memory_format=torch.channels_last)

    epochs, batch, momentum, smoothing = 9.9, 1024, 0.85, 0.2
    scale = 1024 * (1 + 1 / (1 - momentum))  # the loss is a sum over the batch
    rate, decay = 11.5 / scale, 0.0153 * batch / scale
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    biases = [layer.bias for layer in norms]
    others = [
        p for p in network.parameters() if p.requires_grad and all(p is not b for b in biases)
    ]
    optimizer = torch.optim.SGD(
        [
            {"params": biases, "lr": 64 * rate, "weight_decay": decay / (64 * rate)},
            {"params": others, "lr": rate, "weight_decay": decay / rate},
        ],
        momentum=momentum,
        nesterov=True,
    )
    per_epoch = len(images) // batch
    total = math.ceil(per_epoch * epochs)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _triangle(step / total))
    slow = {name: value.clone() for name, value in network.state_dict().items()}
    mirrored = torch.rand(len(images)) < 0.5
    seconds, step = time.perf_counter() - began, 0
    for epoch in range(math.ceil(epochs)):
        began = time.perf_counter()
        network.train()
        network.whitening.bias.requires_grad_(epoch < 3)
        flipped = torch.where(
            (mirrored ^ (epoch % 2 == 1))[:, None, None, None], images.flip(3), images
        )
        for indices in torch.split(torch.randperm(len(images)), batch)[:per_epoch]:
            inputs = _translated(flipped[indices], 2)
            loss = F.cross_entropy(
                network(inputs), labels[indices], label_smoothing=smoothing, reduction="sum"
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1
            if step % 5 == 0:
                _look_ahead(network, slow, 0.95**5 * (step / total) ** 3)
            if step == total:
                _look_ahead(network, slow, 1.0)
                break
        seconds += time.perf_counter() - began
        yield seconds, _accuracy(network, validation, validation_labels)


class AirbenchNetwork(nn.Module):
    """(n, 1, 28, 28) -> logits (n, 10): 2x2 whitening, three blocks of 64, 256 and 256, scaled.

    Args:
        images: normalised training images (n, 1, 28, 28) whose patches are whitened.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.whitening = Whitening()
        self.whitening.fit(images)
        self.blocks = nn.Sequential(_block(8, 64), _block(64, 256), _block(256, 256))
        self.head = nn.Linear(256, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.gelu(self.whitening(x)))
        return torch.as_tensor(self.head(x.amax((2, 3)))) / 9


def _block(incoming: int, channels: int) -> nn.Sequential:
    first, second = (
        nn.Conv2d(i, channels, 3, padding="same", bias=False) for i in (incoming, channels)
    )
    for convolution in (first, second):
        nn.init.dirac_(convolution.weight[: convolution.in_channels])
    norms = [nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4) for _ in range(2)]
    for norm in norms:
        norm.weight.requires_grad_(False)
    return nn.Sequential(first, nn.MaxPool2d(2), norms[0], nn.GELU(), second, norms[1], nn.GELU())


def _triangle(progress: float) -> float:
    """The factor of the learning rate: 0.2 at first, 1 at 23 % of the steps, 0.07 at the end."""
    return float(np.interp(progress, (0, 0.23, 1), (0.2, 1, 0.07)))


def _translated(images: Tensor, most: int) -> Tensor:
    """Each image moved by -most to `most` pixels along each axis; the edge is reflected."""
    n, _, height, width = images.shape
    padded = F.pad(images, (most,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * most + 1, (2, n))
    rows = (down[:, None] + torch.arange(height))[:, :, None]
    columns = (right[:, None] + torch.arange(width))[:, None, :]
    return padded[torch.arange(n)[:, None, None], 0, rows, columns].unsqueeze(1)


@torch.no_grad()
def _look_ahead(network: nn.Module, slow: dict[str, Tensor], decay: float) -> None:
    """Move the slow weights towards the fast ones by 1 - decay; the fast ones go on from there."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            slow[name].lerp_(value, 1 - decay)
            value.copy_(slow[name])


def _parts() -> tuple[Any, Tensor, Tensor]:
    """Indices of the training part; validation images (n, 1, 28, 28), float32, and labels."""
    everything = data.load_training(data.find())
    part = data.split(everything)
    images = torch.from_numpy(everything.images[part.validation].astype(np.float32))
    return part.train, images.unsqueeze(1), torch.from_numpy(everything.labels[part.validation])


@torch.inference_mode()
def _accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    predicted = torch.cat([network(part).argmax(1) for part in torch.split(images, 500)])
    return float((predicted == labels).float().mean())


WAYS: dict[str, Callable[[int], Measured]] = {"ours": ours, "case-5": case_5, "airbench": airbench}


def measure(way: str, seed: int, target: float, minutes: float) -> None:
    """Run a way in a process of its own, and print its row."""
    order = [sys.executable, __file__, "--child", way, "--seed", str(seed)]
    threads = {"OMP_NUM_THREADS": str(os.cpu_count()), "OMP_WAIT_POLICY": "PASSIVE"}
    epochs, seconds, accuracy, best = 0, 0.0, 0.0, 0.0
    with subprocess.Popen(
        order, stdout=subprocess.PIPE, text=True, env=os.environ | threads
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            epochs, (seconds, accuracy) = epochs + 1, json.loads(line)
            best = max(best, accuracy)
            if accuracy >= target or seconds > 60 * minutes:
                break
        child.kill()
    reached = f"{seconds / 60:.1f}" if accuracy >= target else "not reached"
    print(
        f"| {way} | {seed} | {reached} | {epochs} | {seconds / 60 / max(1, epochs):.2f} "
        f"| {100 * best:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print a row for each way and seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", type=float, default=94.0, help="percent")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, for each")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        for measured in WAYS[arguments.child](arguments.seed):
            print(json.dumps(measured), flush=True)
        return
    print(", ".join(f"{key} {value}" for key, value in describe_torch().items()))
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print(
        f"| way | seed | minutes to {arguments.target:g} % | epochs | minutes an epoch | best, % |"
    )
    print("|---|---|---|---|---|---|")
    for seed in range(arguments.seeds):
        for way in arguments.ways:
            measure(way, seed, arguments.target / 100, arguments.minutes)


if __name__ == "__main__":
    main()
