"""A small data set of real images, in idx format."""

import gzip
from pathlib import Path

from fmnist_hpo import data


def write_slice(target: Path) -> None:
    """The first 2,000 training and 500 test images of Fashion-MNIST, as a data set of one's own."""
    source = data.find()
    target.mkdir()
    for stem, count in (("train", 2000), ("t10k", 500)):
        for kind, header, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{stem}-{kind}-ubyte"
            path = next(p for p in (source / name, source / f"{name}.gz") if p.exists())
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
            head = bytearray(raw[:header])
            head[4:8] = count.to_bytes(4, "big")
            (target / name).write_bytes(bytes(head) + raw[header : header + count * size])
