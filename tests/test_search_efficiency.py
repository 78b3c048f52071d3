import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import search_efficiency
from curve_sources import Table
from search_simulation import METHODS, control

EPOCHS = 4


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """24 configurations whose accuracy has a peak, one of them with a second seed."""
    rng = np.random.default_rng(0)
    path = tmp_path / "small.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        steps = range(1, EPOCHS + 1)
        curve = [f"{what}_{e}" for what in ("accuracy", "seconds") for e in steps]
        writer.writerow(["layers", "rate", "width_1", "seed", *curve])
        for number, rate in enumerate(np.geomspace(1e-4, 1e-1, 24)):
            for seed in range(2 if number == 5 else 1):
                peak = 0.9 - 0.02 * np.log10(rate / 1e-2) ** 2
                layers = 1 + number % 2
                accuracy = [peak - 0.1 / e + 0.001 * rng.normal() for e in steps]
                writer.writerow([layers, rate, 64 + number if layers == 2 else "", seed,
                                 *accuracy, *(float(e * layers) for e in steps)])  # fmt: skip
    return path


def test_a_table_of_curves_is_read_with_its_absent_parameters(curves: Path) -> None:
    table = Table(curves)
    assert table.epochs == EPOCHS and len(table.pool) == 24
    assert table.pool[0].keys() == {"layers", "rate"} and "width_1" in table.pool[1]
    by_name = {p.name: p.distribution for p in table.space.parameters}
    assert by_name["rate"].log and not by_name["layers"].log  # type: ignore[attr-defined]
    values, seconds = table.curve(table.pool[1])
    assert values[-1] == pytest.approx(values.max()) and seconds.tolist() == [2, 4, 6, 8]
    best = max(table.pool, key=table.quality)
    assert 3e-3 < best["rate"] < 3e-2


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_every_method_completes_trials_in_the_order_of_time(curves: Path, workers: int) -> None:
    table = Table(curves)
    total = control(table, 0, 60)[-1].seconds / workers
    for name, method in METHODS.items():
        done = list(method(table, 0, total, workers))
        times = [c.seconds for c in done]
        assert done and times == sorted(times) and times[-1] <= total, name
        again = [c.value for c in method(table, 0, total, workers)]
        assert [c.value for c in done] == again, name


@pytest.mark.slow
def test_the_results_are_written_as_json(curves: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    path, figure = tmp_path / "out.json", tmp_path / "out.png"
    monkeypatch.setattr("sys.argv", ["x", "--curves", str(curves), "--seeds", "2",
                                     "--methods", "freeze-thaw", "random",
                                     "--json", str(path), "--figure", str(figure)])  # fmt: skip
    search_efficiency.main()
    methods = {m["method"]: m for m in json.loads(path.read_text())["methods"]}
    assert methods.keys() == {"freeze-thaw", "freeze-thaw, chosen by the model", "random"}
    for m in methods.values():
        assert 0.0 <= m["arrived"] <= 1.0 and m["lower_quartile"] <= m["ratio"]
        assert len(m["regret"]["time"]) == len(m["regret"]["mean"]) and len(m["single"]) == 2
    assert figure.stat().st_size > 0
    assert "| freeze-thaw | 1 | 2 |" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--lcbench", "nowhere"], [], ["--curves", "nowhere.csv.gz"]])
def test_what_is_missing_is_one_line(words: list[str], monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setattr("sys.argv", ["search_efficiency.py", *words])
    with pytest.raises(SystemExit) as ended:
        search_efficiency.main()
    assert ended.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "nowhere" in message if words else "nothing to search on" in message


def test_an_unknown_task_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").touch()
    monkeypatch.setattr("sys.argv", ["x", "--lcbench", str(tmp_path), "--tasks", "31,77"])
    with pytest.raises(SystemExit, match="index from 0 to 33, got '77'"):
        search_efficiency.main()
