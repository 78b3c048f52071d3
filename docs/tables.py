"""Tables of the documentation that are made from the code, so that they cannot lie."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from fmnist_hpo import parameters
from fmnist_hpo.classical import config
from fmnist_hpo.networks.config import ANNConfig, CNNConfig, TrainingConfig
from fmnist_hpo.rules import Rule
from search.spec.keys import KEYS, TOP, Key


def write(folder: Path) -> None:
    """Write every generated page fragment."""
    folder.mkdir(exist_ok=True)
    (folder / "keys.md").write_text("\n".join(_keys()) + "\n")
    (folder / "networks.md").write_text("\n".join(_networks()) + "\n")
    (folder / "classical.md").write_text("\n".join(_classical()) + "\n")


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


def _classical() -> Iterator[str]:
    """A table for what all classical models share, and one for each model."""
    shared = [("model", str(config.MODEL)), *_rules(config.SHARED)]
    yield from _table(("parameter of every model", "value"), shared)
    for model, rules in config.MODELS.items():
        yield ""
        yield from _table((f"of `{model}`", "value"), _rules(rules))


def _rules(rules: Mapping[str, Rule]) -> list[Sequence[str]]:
    return [(name, str(rule)) for name, rule in rules.items()]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
