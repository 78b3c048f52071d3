"""A study beside random search in real time: is its choice as good after a share of the time?

    python benchmarks/real_time.py ann --trials 60 --share 0.1 --seeds 3
    python benchmarks/real_time.py ann --trials 60 --share 0.1 --seeds 3 --named
    python benchmarks/real_time.py cnn --trials 30 --share 0.2 --seeds 1

For each seed two studies run, one after the other, with two workers of one thread each. The control
draws its trials at random and trains each to its last step. The search is the study as its file
says, with a share of the control's time as its budget. With --named it begins with the trials that
the file names, as its users do; else both begin from nothing. Studies that are in --folder already
are taken as they are.

Then both choices are trained again with other seeds, on the same split, as the best of sixty noisy
values was partly luck. Seconds are those with a worker at work, the start of its process included.
`arrived` is when the search completed a trial as good as the control's best value, counted from its
first trial; nan where it never did. The test images are not read.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

import search
from search.spec.overrides import overridden
from search.study import Study

WORKERS = 2
STUDIES = Path(__file__).resolve().parent.parent / "studies"


@dataclass(frozen=True)
class Run:
    """What one seed came to.

    Attributes:
        control_seconds, search_seconds: with a worker at work.
        control_best, search_best: the best value of each.
        arrived: seconds until the search completed a trial as good as the control's best.
        completed, begun: trials of the search.
        control_again, search_again: values of each choice with other seeds.
    """

    seed: int
    control_seconds: float
    control_best: float
    search_seconds: float
    search_best: float
    arrived: float
    completed: int
    begun: int
    control_again: list[float]
    search_again: list[float]

    @property
    def better(self) -> float:
        """By how much the search's choice is better with other seeds."""
        return statistics.mean(self.search_again) - statistics.mean(self.control_again)

    @property
    def error(self) -> float:
        """The standard error of `better`; nan with one seed each."""
        both = (self.control_again, self.search_again)
        if min(map(len, both)) < 2:
            return float("nan")
        return float(sum(statistics.variance(each) / len(each) for each in both) ** 0.5)


class Bench:
    """Studies of one file in a storage of their own."""

    def __init__(self, path: Path, storage: str, folder: Path) -> None:
        self._file = tomllib.loads(path.read_text())
        self._where = str(path)
        self._storage = storage
        self._folder = folder

    def run(self, args: argparse.Namespace, seed: int) -> Run:
        """The control, the search, and both choices again."""
        at_random = {"name": "random"}
        budget = {"trials": args.trials}
        control = self._study(f"control-{seed}", seed, sampler=at_random, budget=budget)
        seconds = control.status().elapsed_seconds
        budget = self._file["budget"] | {"hours": args.share * seconds / 3600}
        begun = {"trials": self._file["trials"]} if args.named else {}
        kind = "named" if args.named else "search"
        found = self._study(f"{kind}-{seed}", seed, budget=budget, **begun)
        both = {"control": control.best, "search": found.best}
        trials = [
            {"name": f"{arm}-{number}", "params": trial.params}
            for number in range(args.again)
            for arm, trial in both.items()
        ]
        budget = {"trials": len(trials)}
        again = self._study(
            f"again-{kind}-{seed}", 1000 + seed, sampler=at_random, budget=budget, trials=trials
        )
        status, target = found.status(), _value(control.best)
        return Run(
            seed=seed,
            control_seconds=seconds,
            control_best=target,
            search_seconds=status.elapsed_seconds,
            search_best=_value(found.best),
            arrived=_arrived(found, target),
            completed=status.complete,
            begun=status.begun,
            control_again=_of_arm(again, "control"),
            search_again=_of_arm(again, "search"),
        )

    def _study(self, name: str, seed: int, **tables: Any) -> Study:
        """The study of that name, run to its end.

        Raises:
            CalledProcessError: the study did not end.
        """
        left_out = ("trials", "refit", "confirm", "control", "audit")
        document = {key: value for key, value in self._file.items() if key not in left_out}
        document |= {"name": name, "seed": seed} | tables
        study = search.create(
            overridden(document, [], self._where),
            storage=self._storage,
            checkpoints=str(self._folder / name),
        )
        command = [sys.executable, "-m", "search", "run", name, "--workers", str(WORKERS)]
        command += ["--storage", self._storage]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        study.refresh()
        return study


def _arrived(study: Study, target: float) -> float:
    """Seconds from the study's first trial to its first complete one with the target; else nan."""
    began = min(trial.datetime_start for trial in study.trials if trial.datetime_start)
    ends = [
        (trial.datetime_complete - began).total_seconds()
        for trial in study.trials
        if trial.state is TrialState.COMPLETE and trial.datetime_complete
        if _value(trial) >= target
    ]
    return min(ends, default=float("nan"))


def _of_arm(study: Study, arm: str) -> list[float]:
    return [_value(trial) for trial in study.trials if trial.user_attrs["name"].startswith(arm)]


def _value(trial: FrozenTrial) -> float:
    """Of a complete trial."""
    assert trial.value is not None
    return float(trial.value)


def main() -> int:
    """Run both for each seed and print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a study file that maximizes, or a name in studies/")
    parser.add_argument("--trials", type=int, default=60, help="of the control")
    parser.add_argument("--share", type=float, default=0.1, help="of its time, for the search")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", type=int, default=4, help="seeds to train each choice with")
    parser.add_argument("--named", action="store_true", help="begin with the file's named trials")
    parser.add_argument("--folder", type=Path, help="to keep the studies in (default: they go)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the runs there, too")
    args = parser.parse_args()
    path = Path(args.study) if args.study.endswith(".toml") else STUDIES / f"{args.study}.toml"
    print(
        f"{path.stem}, {WORKERS} workers, {args.trials} trials of the control, share {args.share}; "
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"Optuna {optuna.__version__}"
    )
    print(
        f"{'seed':>4}{'control s':>11}{'best':>9}{'search s':>10}{'best':>9}{'arrived s':>11}"
        f"{'complete':>10}{'begun':>7}{'again: control':>16}{'search':>9}{'better':>18}"
    )
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        folder = (args.folder or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(path, f"sqlite:///{folder}/studies.db", folder)
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            run = bench.run(args, seed)
            runs.append(run)
            control, found = map(statistics.mean, (run.control_again, run.search_again))
            print(
                f"{seed:4}{run.control_seconds:11.0f}{run.control_best:9.4f}"
                f"{run.search_seconds:10.0f}{run.search_best:9.4f}{run.arrived:11.0f}"
                f"{run.completed:10}{run.begun:7}{control:16.4f}{found:9.4f}"
                f"{run.better:+9.4f} +- {run.error:.4f}",
                flush=True,
            )
            if args.json:
                args.json.write_text(json.dumps([asdict(one) for one in runs], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
