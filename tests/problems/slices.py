"""The first images of the real data set, as a data set of one's own."""

import gzip
from pathlib import Path

from fmnist_hpo import data

#: The smallest study of a slice in ./data.
STUDY = """
problem = "fmnist_hpo.problem:FashionProblem"
name = "slice"
metric = "val_accuracy"
direction = "maximize"
[budget]
trials = 1
[data]
dir = "data"
[fixed]
family = "ann"
layers = 1
hidden_units = 8
epochs = 1
[space]
learning_rate = { float = [1e-3, 1e-2], log = true }
"""


def write_slice(target: Path, *, train: int = 2000, test: int = 500) -> Path:
    """Write the four idx files; returns their folder."""
    source = data.find()
    target.mkdir()
    for stem, count in (("train", train), ("t10k", test)):
        for kind, header, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{stem}-{kind}-ubyte"
            path = next(p for p in (source / name, source / f"{name}.gz") if p.exists())
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
            head = bytearray(raw[:header])
            head[4:8] = count.to_bytes(4, "big")
            (target / name).write_bytes(bytes(head) + raw[header : header + count * size])
    return target
