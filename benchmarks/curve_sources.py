"""Learning curves to search on without training: a surrogate of LCBench, and recorded tables."""

import csv
import gzip
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.sampling.freeze_thaw.encoding import Encoding
from search.spec.space import Parameter, Space

Array = NDArray[np.float64]
Params = Mapping[str, Any]

LCBENCH_TASKS = {"189908": 31, "189865": 26, "167200": 15, "168910": 23}  # OpenML task -> index
LCBENCH_COUNT = 34  # tasks that the surrogate knows


class Source(Protocol):
    """Curves of one task. Values are accuracies in percent: more is better.

    Attributes:
        pool: the only configurations there are, or None where each point of the space has a curve.
        noisy: whether an observed value differs from the quality behind it.
    """

    name: str
    space: Space
    epochs: int
    noisy: bool

    @property
    def pool(self) -> Sequence[Params] | None: ...

    def curve(self, params: Params) -> tuple[Array, Array]:
        """Accuracy after each epoch and seconds since the start, (epochs,) each."""
        ...

    def quality(self, params: Params) -> float:
        """The final accuracy without its noise."""
        ...


class LCBench:
    """One task of LCBench: MLPs on tabular data, 7 parameters, 51 epochs, no noise.

    The curves come from YAHPO Gym's surrogate, a network fitted to the recorded ones.
    Sources: Zimmer, Lindauer, Hutter, "Auto-PyTorch Tabular", 2021; Pfisterer et al., "YAHPO Gym",
    2022 (github.com/slds-lmu/yahpo_data, Apache-2.0).

    Args:
        directory: holds model.onnx.
        index: of the task in the surrogate.
    """

    epochs = 51
    pool = None
    noisy = False
    space = Space(
        (
            Parameter(name="batch_size", distribution=IntDistribution(16, 512, log=True)),
            Parameter(name="learning_rate", distribution=FloatDistribution(1e-4, 1e-1, log=True)),
            Parameter(name="momentum", distribution=FloatDistribution(0.1, 0.99)),
            Parameter(name="weight_decay", distribution=FloatDistribution(1e-5, 1e-1)),
            Parameter(name="layers", distribution=IntDistribution(1, 5)),
            Parameter(name="units", distribution=IntDistribution(64, 1024, log=True)),
            Parameter(name="dropout", distribution=FloatDistribution(0.0, 1.0)),
        )
    )

    def __init__(self, directory: Path, index: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(directory / "model.onnx"), options)
        self._index = index
        self.name = f"lcbench {index}"

    def curve(self, params: Params) -> tuple[Array, Array]:
        rows = self.epochs + 1  # the surrogate's epoch 1 lies before training
        inputs = np.empty((rows, 8), np.float32)
        inputs[:, 0] = np.arange(1, rows + 1)
        inputs[:, 1:] = [params[p.name] for p in self.space.parameters]
        task = np.full((rows, 1), self._index, np.int32)
        (out,) = self._session.run(None, {"x_cat": task, "x_cont": inputs})
        seconds = np.maximum.accumulate(np.maximum(out[1:, 0].astype(float), 1e-6))
        return out[1:, 1].astype(float), seconds

    def quality(self, params: Params) -> float:
        return float(self.curve(params)[0][-1])


class Table:
    """Recorded curves: one row for each configuration and seed. A search picks from them.

    Of a configuration the curve of its first seed is shown to a search. Its quality is the mean of
    a Gaussian process over the final accuracies of all seeds, which takes most of the noise out.

    Args:
        path: a CSV file (.csv.gz) with the parameters, `seed`, `accuracy_1` ... (0 to 1) and
            `seconds_1` ... (since the start); an empty cell is an absent parameter. Or JSON lines
            (.jsonl.gz) with the parameters, `seed`, `accuracy` and `seconds` as lists.
    """

    noisy = True

    def __init__(self, path: Path) -> None:
        self.name = path.name.split(".")[0]
        rows = read_rows(path)
        self.epochs = len(rows[0][2])
        self._curves: dict[str, tuple[Array, Array]] = {}
        self.pool: list[Params] = []
        finals: dict[str, list[float]] = {}
        for params, _, accuracy, seconds in sorted(rows, key=lambda row: row[1]):
            key = key_of(params)
            if key not in self._curves:
                self._curves[key] = 100.0 * np.array(accuracy), np.array(seconds)
                self.pool.append(params)
            finals.setdefault(key, []).append(100.0 * accuracy[-1])
        self.space = _space_of(self.pool)
        self._quality = _without_noise(
            self.space, self.pool, [finals[key_of(p)] for p in self.pool]
        )

    def curve(self, params: Params) -> tuple[Array, Array]:
        return self._curves[key_of(params)]

    def quality(self, params: Params) -> float:
        return self._quality[key_of(params)]


def key_of(params: Params) -> str:
    """The same text for the same parameters."""
    return json.dumps(params, sort_keys=True)


def read_rows(path: Path) -> list[tuple[Params, int, list[float], list[float]]]:
    """Parameters, seed, accuracies and seconds of each row."""
    if ".jsonl" in path.suffixes:
        found = []
        with gzip.open(path, "rt") as file:
            for line in file:
                row = json.loads(line)
                accuracy, seconds = row.pop("accuracy"), row.pop("seconds")
                row.pop("config", None)
                found.append((row, row.pop("seed"), accuracy, seconds))
        return found
    with gzip.open(path, "rt", newline="") as file:
        table = list(csv.DictReader(file))
    found = []
    for cells in table:
        epochs = sum(name.startswith("accuracy_") for name in cells)
        accuracy, seconds = (
            [float(cells.pop(f"{what}_{epoch}")) for epoch in range(1, epochs + 1)]
            for what in ("accuracy", "seconds")
        )
        seed = int(cells.pop("seed"))
        cells.pop("config", None)
        found.append(({n: _value(c) for n, c in cells.items() if c != ""}, seed, accuracy, seconds))
    return found


def _value(cell: str) -> Any:
    if cell in ("True", "true", "False", "false"):
        return cell.lower() == "true"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _space_of(pool: Sequence[Params]) -> Space:
    """A space in which all these configurations lie."""
    parameters = []
    for name in dict.fromkeys(name for params in pool for name in params):
        values = [params[name] for params in pool if name in params]
        distribution: BaseDistribution
        if any(isinstance(value, bool | str) for value in values):
            distribution = CategoricalDistribution(sorted(set(values), key=str))
        else:
            low, high = min(values), max(values)
            log = low > 0 and high > low and _is_log(np.array(values, dtype=float))
            if all(isinstance(value, int) for value in values):
                distribution = IntDistribution(low, high, log=log)
            else:
                distribution = FloatDistribution(float(low), float(high), log=log)
        # A condition that is never looked at marks a parameter that some configurations lack.
        when = {} if len(values) == len(pool) else {"absent": (False,)}
        parameters.append(Parameter(name=name, distribution=distribution, when=when))
    return Space(tuple(parameters))


def _is_log(values: Array) -> bool:
    """Whether the median is nearer to the middle of the range on a log scale than without."""
    low, middle, high = np.min(values), np.median(values), np.max(values)
    on_log = np.log(middle / low) / np.log(high / low)
    return bool(abs(on_log - 0.5) < abs((middle - low) / (high - low) - 0.5))


def _without_noise(
    space: Space, pool: Sequence[Params], finals: Sequence[Sequence[float]]
) -> dict[str, float]:
    """The mean of scikit-learn's Gaussian process over log errors, for each configuration.

    The worst fifth of the configurations keep their observed mean: a stationary model of all of
    them would spend itself on the worst.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    mean = np.array([np.mean(values) for values in finals])
    x = Encoding(space, {}).encode(pool)
    good = np.flatnonzero(mean > np.quantile(mean, 0.2))
    row = np.repeat(good, [len(finals[i]) for i in good.tolist()])
    y = np.log(100.0 - np.concatenate([finals[i] for i in good.tolist()]))
    kernel = ConstantKernel(1.0) * Matern(np.full(x.shape[1], 0.7), nu=2.5) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[row], y)
    mean[good] = 100.0 - np.exp(model.predict(x[good]))
    return {key_of(params): float(value) for params, value in zip(pool, mean, strict=True)}
