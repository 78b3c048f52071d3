"""Tables of the documentation that are made from the code, so that they cannot lie."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from fmnist_hpo import parameters
from fmnist_hpo.networks.config import ANNConfig, CNNConfig, TrainingConfig
from search.spec.keys import KEYS, TOP, Key


def write(folder: Path) -> None:
    """Write every generated page fragment."""
    folder.mkdir(exist_ok=True)
    (folder / "keys.md").write_text("\n".join(_keys()) + "\n")
    (folder / "networks.md").write_text("\n".join(_networks()) + "\n")


def _keys() -> Iterator[str]:
    """A table for each table of a study file."""
    for table, keys in groupby(KEYS, key=lambda key: key.table):
        yield f"### {f'`[{table}]`' if table != TOP else 'At the top of the file'}\n"
        yield from _table(("key", "value", "default", "what it is for"), map(_key, keys))
        yield ""


def _key(key: Key) -> Sequence[str]:
    default = "**required**" if key.required else "" if key.default is None else f"`{key.default}`"
    name = f"`{key.name}`" + (f" ({', '.join(key.only)})" if key.only else "")
    value = key.rule + (f"; {key.condition}" if key.condition else "")
    return name, value, default, key.text


def _networks() -> Iterator[str]:
    """A table for each kind of network, and one for its training."""
    for title, kind in (("An ANN", ANNConfig), ("A CNN", CNNConfig), ("Training", TrainingConfig)):
        yield f"### {title}\n"
        yield from _table(("parameter", "value", "default", "what it is"), parameters.rows(kind))
        yield ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
