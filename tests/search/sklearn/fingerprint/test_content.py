"""Digests: equal content is equal however it lies in memory, and a change is seen."""

import functools
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse, stats
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from search.sklearn.fingerprint.content import digest
from search.sklearn.fingerprint.distributions import show_value

COLUMNS = st.sampled_from(["float64", "float32", "int64", "int8", "bool", "text", "category"])
QUICK = settings(max_examples=40, deadline=None)


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    rows = draw(st.integers(1, 6))
    columns = {}
    for name in draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True)):
        kind = draw(COLUMNS)
        if kind in ("text", "category"):
            texts = draw(st.lists(st.sampled_from("xyz"), min_size=rows, max_size=rows))
            columns[name] = pd.Series(texts, dtype="category" if kind == "category" else None)
        else:
            columns[name] = pd.Series(draw(hnp.arrays(kind, rows)))
    return pd.DataFrame(columns)


@pytest.mark.slow
@QUICK
@given(frames())
def test_blocks_order_and_back_end_of_a_frame_do_not_count(frame: pd.DataFrame) -> None:
    column = frame.columns[0]
    nullable = {
        name: {"int64": "Int64", "int8": "Int8", "bool": "boolean"}.get(str(kind), kind)
        for name, kind in frame.dtypes.items()
    }
    texts = frame.dtypes.astype(str).isin(["str", "object"])
    others = {
        "assigned": frame.assign(**{column: frame[column]}),
        "joined": pd.concat([frame.iloc[:, :1], frame.iloc[:, 1:]], axis=1),
        "shuffled": frame.sample(frac=1, random_state=0).sort_index(),
        "copied": frame.copy(),
        "column by column": pd.DataFrame({name: frame[name].copy() for name in frame}),
        "nullable": frame.astype(nullable),
        "object texts": frame.astype(dict.fromkeys(frame.columns[texts], object)),
        "string texts": frame.astype(dict.fromkeys(frame.columns[texts], "string")),
    }
    for name, other in others.items():
        assert digest(other) == digest(frame), name


@QUICK
@given(frames(), st.data())
def test_a_changed_frame_is_seen(frame: pd.DataFrame, data: Any) -> None:
    column = data.draw(st.sampled_from(list(frame.columns)))
    changed = {
        "another label": frame.rename(columns={column: "z"}),
        "another index": frame.set_axis(frame.index + 1),
        "another row": pd.concat([frame, frame.iloc[:1]]),
    }
    if frame[column].dtype.kind == "f":
        changed["another value"] = frame.assign(**{column: frame[column].fillna(0) + 1e-3 + 1e3})
    for name, other in changed.items():
        if not other.equals(frame):
            assert digest(other) != digest(frame), name


@QUICK
@given(hnp.arrays(st.sampled_from(["f8", "f4", "i4", "c16", "U3", "M8[s]", "?"]), (3, 4)))
def test_memory_order_and_byte_order_of_an_array_do_not_count(array: Any) -> None:
    padded = np.zeros((3, 8), array.dtype)[:, ::2]
    padded[...] = array
    for other in (np.asfortranarray(array), padded, array.astype(array.dtype.newbyteorder(">"))):
        assert digest(other) == digest(array)
    assert digest(array.reshape(4, 3)) != digest(array)


def test_every_nan_is_one_and_a_kind_of_number_counts() -> None:
    other_nan = np.array([0x7FF8000000000001], dtype="u8").view("f8")
    assert digest(np.array([np.nan, 0.0])) == digest(np.array([other_nan[0], -0.0]))
    assert digest(np.array([1.0])) != digest(np.array([1], dtype="f4")) != digest(np.array([1]))
    assert digest(np.array(["a", "b"], "U9")) == digest(np.array(["a", "b"], object))
    assert digest(pd.Series([1, None], dtype="Int64")) != digest(pd.Series([1, 0], dtype="Int64"))


@pytest.mark.slow
@QUICK
@given(hnp.arrays("f8", (4, 3), elements=st.sampled_from([0.0, 1.0, -2.5])), st.data())
def test_how_a_sparse_matrix_is_stored_does_not_count(dense: Any, data: Any) -> None:
    rows, columns = (axis.ravel() for axis in np.indices(dense.shape))
    order = data.draw(st.permutations(range(dense.size)))
    every = sparse.coo_array((dense.ravel()[order], (rows[order], columns[order])), dense.shape)
    halves = sparse.coo_array(
        (np.tile(dense.ravel() / 2, 2), (np.tile(rows, 2), np.tile(columns, 2))), dense.shape
    )
    wide = sparse.csr_array(dense)
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    expected = digest(sparse.csr_array(dense))
    for other in (every, halves, wide, every.tocsc(), every.tolil(), sparse.csr_matrix(dense)):
        assert digest(other) == expected
    assert digest(sparse.csr_array(dense + 1)) != expected
    assert digest(sparse.csr_array(dense.astype("f4"))) != expected
    assert digest(dense) != expected


class Flat(stats.rv_continuous):
    def _ppf(self, q: Any) -> Any:
        return self.a + q * (self.b - self.a)

    def _cdf(self, x: Any) -> Any:
        return (x - self.a) / (self.b - self.a)


class Holding:
    """A distribution of one's own, with a generator and a cache."""

    def __init__(self, low: float = 0.0) -> None:
        self.low = low
        self.rng = np.random.default_rng()
        self.draw = np.random.rand
        self.inner = stats.Normal(mu=low)

    @functools.cached_property
    def table(self) -> Any:
        return np.random.rand(3)

    def rvs(self, random_state: Any = None) -> float:
        self.inner.mean()
        return self.low + float(self.rng.random() + self.table[0])


DISTRIBUTIONS: dict[str, list[Any]] = {
    "uniform": [lambda: stats.uniform(2, 3), lambda: stats.uniform(2, 4)],
    "unfrozen": [lambda: stats.halfnorm, lambda: stats.norm],
    "values": [
        lambda: stats.rv_discrete(values=([1, 2], [0.5, 0.5])),
        lambda: stats.rv_discrete(values=([1, 3], [0.5, 0.5])),
        lambda: stats.rv_discrete(values=([1, 2], [0.4, 0.6])),
    ],
    "frozen values": [
        lambda: stats.rv_discrete(name="x", values=([1, 2], [0.5, 0.5]))(),
        lambda: stats.rv_discrete(name="x", values=([1, 2], [0.4, 0.6]))(),
        lambda: stats.rv_discrete(name="x", values=([1, 2], [0.4, 0.6]))(loc=1),
    ],
    "histogram": [
        lambda: stats.rv_histogram(np.histogram([1.0, 2.0, 2.0])),
        lambda: stats.rv_histogram(np.histogram([1.0, 2.0, 3.0])),
    ],
    "frozen histogram": [
        lambda: stats.rv_histogram(np.histogram([1.0, 2.0, 2.0]))(),
        lambda: stats.rv_histogram(np.histogram([1.0, 2.0, 3.0]))(),
    ],
    "own": [lambda: Flat(a=0, b=1, name="f"), lambda: Flat(a=0, b=2, name="f")],
    "own, frozen": [lambda: Flat(a=0, b=1, name="f")(), lambda: Flat(a=0, b=2, name="f")()],
    "arrays": [lambda: stats.uniform([0.1, 0.2], 1), lambda: stats.uniform([0.1, 0.3], 1)],
    "many numbers": [
        lambda: stats.multivariate_normal([0, 1]),
        lambda: stats.multivariate_normal([0, 2]),
        lambda: stats.dirichlet([1, 2]),
        lambda: stats.dirichlet([1, 3]),
    ],
    "another class": [lambda: Holding(1.0), lambda: Holding(2.0)],
}
CASES = [(name, at) for name, makers in DISTRIBUTIONS.items() for at in range(len(makers))]


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_is_its_content(name: str) -> None:
    makers = DISTRIBUTIONS[name]
    digests = [digest(make()) for make in makers]
    assert len(set(digests)) == len(makers)
    for make, before in zip(makers, digests, strict=True):
        source = make()
        source.rvs(random_state=np.random.RandomState(0))  # fills caches
        np.random.rand()
        assert digest(source) == before
        assert " at 0x" not in show_value(source)


def test_the_way_arguments_are_given_does_not_count() -> None:
    expected = digest(stats.uniform(0, 2))
    for other in (stats.uniform(scale=2.0), stats.uniform(loc=np.int64(0), scale=np.float64(2))):
        assert digest(other) == expected


@pytest.mark.slow
def test_another_process_finds_the_same_digests() -> None:
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location(sys.argv[1], sys.argv[2])\n"
        "module = sys.modules[sys.argv[1]] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print([module.digest(module.DISTRIBUTIONS[n][i]()) for n, i in module.CASES])\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", code, __name__, __file__],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str([digest(DISTRIBUTIONS[n][i]()) for n, i in CASES])


def test_an_estimator_is_what_its_clone_is() -> None:
    X, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    fitted = make_pipeline(StandardScaler(), SVC(C=2)).fit(X, y)
    assert digest(fitted) == digest(make_pipeline(StandardScaler(), SVC(C=2)))
    assert digest(fitted) != digest(make_pipeline(StandardScaler(), SVC(C=3)))
    other = SVC(C=2).fit(X, 1 - y)
    assert digest(FrozenEstimator(SVC(C=2).fit(X, y))) != digest(FrozenEstimator(other))


def test_one_object_twice_is_two_equal_objects() -> None:
    values = [1.5, (2, "a")]
    assert digest({"a": values, "b": values}) == digest({"b": [1.5, (2, "a")], "a": values})
    around: list[Any] = []
    around.append(around)
    assert digest(around) == digest(around)


def test_a_function_without_a_name_counts_by_its_code() -> None:
    def power(exponent: int) -> Any:
        return lambda x: x**exponent

    assert digest(power(2)) == digest(power(2)) != digest(power(3))
    assert digest(make_scorer(accuracy_score)) != digest(
        make_scorer(accuracy_score, greater_is_better=False)
    )


def test_a_class_without_a_name_may_be_abstract() -> None:
    def one(low: int) -> Any:
        class Drawing(ABC):
            least = low

            @abstractmethod
            def rvs(self, random_state: object = None) -> int: ...

        class Least(Drawing):
            def rvs(self, random_state: object = None) -> int:
                return self.least

        return Least()

    assert digest(one(1)) == digest(one(1)) != digest(one(2))
