"""Records learning curves of random configurations: a table for `search_efficiency.py`.

    python benchmarks/record_curves.py --family ann --configurations 400 --epochs 25
    python benchmarks/record_curves.py --family cnn --configurations 100 --epochs 12
    python benchmarks/record_curves.py --family ann ... --export-only     # what is there by now

The recording is a study of its own that can be stopped (Ctrl-C) and continued with the same
command, on another machine as well: what the table has is not trained again. Its configurations are
drawn at random from the space of `studies/FAMILY.toml`, with smaller networks, so that hundreds can
be trained. Training is this project's, on a stratified part of 16,000 images (12,800 to train,
3,200 to validate). Each tenth configuration is trained with three seeds, so that the noise between
seeds is known.

Afterwards the table of all complete trials is written to `benchmarks/curves/FAMILY.csv.gz`: a row
per configuration and seed, with its parameters, `seed`, `accuracy_1` ... (validation, 0 to 1) and
`seconds_1` ... (cumulative processor seconds of one thread: multiples of the median of the trial's
epochs, so that other work on the machine disturbs them little).
"""

import argparse
import csv
import gzip
import io
import itertools
import os
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import optuna
from curve_sources import key_of, read_rows
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

import search
from fmnist_hpo.problem import FashionProblem
from search import attributes
from search.problem import TrialContext
from search.spec import parse_spec
from search.study import Study

HERE = Path(__file__).parent
STUDIES = HERE.parent / "studies"
IMAGES = 16_000  # to train and to validate
SMALLER: Mapping[str, Mapping[str, Any]] = {
    "ann": {"hidden_units": {"int": [64, 384], "log": True, "for_each": "layers"}},
    "cnn": {
        "convolutions": {"int": [1, 2]},
        "shortcut": {"choice": [True, False], "when": {"convolutions": 2}},
        "channels_0": {"int": [6, 12], "log": True},
        "channels_1": {"int": [12, 24], "log": True},
        "channels_2": {"int": [24, 48], "log": True, "when": {"blocks": 3}},
    },
}
Row = dict[str, Any]
Curve = tuple[str, int]  # a configuration, by `key_of`, and its seed
REPEATED, SEEDS = 10, 3  # each tenth configuration is trained with three seeds


class _Timed:
    """A trial whose reports gain the processor seconds since the last one."""

    def __init__(self, trial: TrialContext) -> None:
        self._trial, self._since = trial, time.process_time()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def report(self, step: int, value: float, **figures: float) -> None:
        now = time.process_time()
        self._trial.report(step, value, cpu_seconds=now - self._since, **figures)
        self._since = now


class CurveProblem(FashionProblem):
    """`FashionProblem`, which reports the processor seconds of each step, too."""

    def run(self, trial: TrialContext, /) -> float | Mapping[str, float]:
        """See `FashionProblem.run`."""
        return super().run(cast(TrialContext, _Timed(trial)))


def study_file(
    family: str, configurations: int, epochs: int, recorded: Collection[Curve] = ()
) -> tuple[str, list[Curve]]:
    """The text of the study: its configurations are named trials, the repeated ones one by one.

    Args:
        recorded: curves that are left out.

    Returns:
        The text, and all curves in their order, those that are left out as well.
    """
    study = tomllib.loads((STUDIES / f"{family}.toml").read_text())
    fixed = {**study["fixed"], "epochs": epochs, "report_every": 1.0}
    space = study["space"] | SMALLER[family]
    tables = {"data": {"tune_on": IMAGES}, "fixed": fixed, "space": space}
    head = (
        f'problem = "record_curves:CurveProblem"\nname = "curves-{family}"\nseed = 0\n'
        'metric = "val_accuracy"\ndirection = "maximize"\n'
    )
    for name, table in tables.items():
        head += f"\n[{name}]\n" + "".join(f"{key} = {_toml(x)}\n" for key, x in table.items())
    draws = _draws(head, fixed)
    every = {
        (key_of(params), seed): (f"{index}-{seed}", params)
        for index, params in enumerate(itertools.islice(draws, configurations))
        for seed in range(SEEDS if index % REPEATED == 0 else 1)
    }
    trials = [trial for curve, trial in every.items() if curve not in recorded]
    text = (
        head
        + f"\n[budget]\ntrials = {len(trials)}\n"
        + "".join(
            f'\n[[trials]]\nname = "{name}"\nparams = {_toml(params)}\n' for name, params in trials
        )
    )
    return text, list(every)


def _draws(head: str, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Random points of the space of a study file, always the same ones."""
    space = parse_spec(head + "\n[budget]\ntrials = 1\n", where="the study").space
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    while True:
        trial = sampler.ask()

        def choose(name: str, d: BaseDistribution, trial: optuna.Trial = trial) -> Any:
            if isinstance(d, CategoricalDistribution):
                return trial.suggest_categorical(name, d.choices)
            suggest = trial.suggest_int if isinstance(d, IntDistribution) else trial.suggest_float
            return suggest(name, d.low, d.high, log=d.log, step=d.step)  # type: ignore[attr-defined]

        yield space.walk(choose, fixed)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(x)}" for key, x in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def table_of(path: Path, epochs: int) -> dict[Curve, Row]:
    """The rows of a table that was written before; none where it is missing.

    Raises:
        ValueError: it has other epochs.
    """
    if not path.exists():
        return {}
    found = read_rows(path)
    if any(len(accuracy) != epochs for _, _, accuracy, _ in found):
        raise ValueError(f"{path} has curves of other than {epochs} epochs; move it away")
    return {
        (key_of(params), seed): _row(params, seed, accuracy, seconds)
        for params, seed, accuracy, seconds in found
    }


def rows(study: Study, epochs: int) -> dict[Curve, Row]:
    """Those of the complete trials, in the order of the study file."""
    found = {}
    for trial in sorted(study.trials, key=lambda trial: trial.number):
        if trial.state is not optuna.trial.TrialState.COMPLETE:
            continue
        curve = trial.intermediate_values
        seconds = statistics.median(trial.user_attrs[attributes.CURVES]["cpu_seconds"])
        seed = int(trial.user_attrs[attributes.NAME].partition("-")[2])
        steps = range(1, epochs + 1)
        accuracy = [round(curve[step], 5) for step in steps]
        times = [round(step * seconds, 3) for step in steps]
        found[key_of(trial.params), seed] = _row(trial.params, seed, accuracy, times)
    return found


def _row(
    params: Mapping[str, Any], seed: int, accuracy: Sequence[float], seconds: Sequence[float]
) -> Row:
    row = {**params, "seed": seed}
    row |= {f"accuracy_{step}": value for step, value in enumerate(accuracy, 1)}
    return row | {f"seconds_{step}": value for step, value in enumerate(seconds, 1)}


def write(path: Path, table: Sequence[Row], epochs: int) -> None:
    """Write a compressed table; the same rows give the same bytes."""
    figures = [f"{x}_{step}" for x in ("accuracy", "seconds") for step in range(1, epochs + 1)]
    named = sorted({name for row in table for name in row} - set(figures) - {"seed"})
    text = io.StringIO()
    writer = csv.DictWriter(text, [*named, "seed", *figures], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def main() -> int:
    """Record, and write what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=("ann", "cnn"), required=True)
    parser.add_argument("--configurations", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--directory", type=Path, default=Path("runs/curves"), help="of the study and its storage"
    )
    parser.add_argument("--export-only", action="store_true", help="train nothing")
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    file, storage = args.directory / f"{args.family}.toml", args.directory / f"{args.family}.db"
    target = HERE / "curves" / f"{args.family}.csv.gz"
    try:
        table = table_of(target, args.epochs)
    except ValueError as error:
        print(error)
        return 2
    text, order = study_file(args.family, args.configurations, args.epochs, table)
    if table.keys() - set(order):
        print(f"{target} has curves of another space or of more configurations; move it away")
        return 2
    trains = not args.export_only and bool(set(order) - table.keys())
    if trains and not storage.exists():  # else the study goes on as it was created
        file.write_text(text)
    url = f"sqlite:///{storage.resolve()}"
    path = os.pathsep.join(filter(None, (str(HERE.resolve()), os.environ.get("PYTHONPATH"))))
    code = 0
    if trains:
        code = subprocess.run(
            [
                *(sys.executable, "-m", "search", "run", file, "--storage", url),
                *("--checkpoints", args.directory / f"{args.family}-checkpoints"),
                *("--workers", str(args.workers), "--threads", "1"),
            ],
            env={**os.environ, "PYTHONPATH": path},
        ).returncode
    if code == 2:
        return code  # it was refused, and said why
    if storage.exists():
        table |= rows(search.open(f"curves-{args.family}", storage=url), args.epochs)
    found = [table[curve] for curve in order if curve in table]
    write(target, found, args.epochs)
    once = sum(row["seed"] == 0 for row in found)
    print(f"{target}: {once} configurations, {len(found)} curves, {target.stat().st_size:,} bytes")
    return code


if __name__ == "__main__":
    sys.exit(main())
