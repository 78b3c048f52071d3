"""How soon the dashboard's first page of a large study is usable, and what memory the server takes.

    python benchmarks/dashboard.py --trials 2000 --repeats 5

A study of so many finished trials, each with eight parameters and the curves of a network's
training over fourteen epochs, in a SQLite file; `fmnist-hpo dashboard` in a process of its own; a
Chromium without a cache for every repeat. Usable: the best trial is named and the history is drawn.
Then every page of the study is opened, those with plots drawn by the server as well.
"""

import argparse
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

EPOCHS = 14
PAGES = ("", "/analytics", "/trials", "/trialTable", "/note", "/smartSelection")


def fill(url: str, count: int) -> int:
    """A study with `count` finished trials; its id."""
    import optuna
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dice = random.Random(0)
    study = optuna.create_study(storage=url, study_name="large", direction="maximize")
    distributions: dict[str, Any] = {
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0, 0.5),
        "label_smoothing": FloatDistribution(0, 0.1),
        "channels_0": IntDistribution(16, 64),
        "channels_1": IntDistribution(32, 128),
        "batch_size": CategoricalDistribution([64, 128, 256]),
        "optimizer": CategoricalDistribution(["adamw", "sgd"]),
    }
    sampler = optuna.samplers.RandomSampler(seed=0)
    began = datetime(2026, 1, 1)  # noqa: DTZ001 - as Optuna's times

    def trial(number: int) -> optuna.trial.FrozenTrial:
        pruned = dice.random() < 0.7
        best, steps = 0.85 + 0.1 * dice.random(), dice.choice([1, 2, 4]) if pruned else EPOCHS
        values = [best - 0.2 / step for step in range(1, steps + 1)]
        made = create_trial(
            state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
            value=values[-1],
            params={
                name: sampler.sample_independent(study, None, name, distribution)  # type: ignore[arg-type]
                for name, distribution in distributions.items()
            },
            distributions=distributions,
            intermediate_values=dict(enumerate(values, start=1)),
            user_attrs={
                "lineage": number,
                "worker": f"host-{number % 4}",
                "curves": {"step": list(range(1, steps + 1))}
                | {key: values for key in ("val_accuracy", "train_accuracy", "train_loss")},
            },
        )
        made.datetime_start = began + timedelta(minutes=number)
        made.datetime_complete = made.datetime_start + timedelta(minutes=2)
        return made

    study.add_trials([trial(number) for number in range(count)])
    return int(study._study_id)


def megabytes(pid: int) -> float:
    """The most memory that a process has held so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def usable(browser: Any, address: str) -> float:
    """Seconds until a browser without a cache shows the best trial and the history."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.get_by_text("Best Trial (number=").wait_for()
    page.wait_for_function("document.getElementById('plot-history')?.data?.length > 0")
    seconds = time.perf_counter() - started
    context.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/study.db"
        study = fill(url, arguments.trials)
        server = subprocess.Popen(
            [sys.executable, "-m", "fmnist_hpo.cli", "dashboard", "--storage", url, "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=directory,
        )
        assert server.stdout is not None
        address = f"{server.stdout.readline().split()[1]}dashboard/studies/{study}"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=arguments.chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            times = sorted(usable(browser, address) for _ in range(arguments.repeats))
            first = megabytes(server.pid)
            page = browser.new_page()
            for path in PAGES:
                page.goto(address + path)
                page.wait_for_load_state("networkidle")
            browser.close()
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {arguments.trials} trials")
        print(
            f"first page usable after {statistics.median(times):.2f} s "
            f"({times[0]:.2f} to {times[-1]:.2f}, n = {len(times)})"
        )
        print(f"server's peak: {first:.0f} MB then, {megabytes(server.pid):.0f} MB after all pages")
        server.send_signal(signal.SIGINT)
        server.wait()


if __name__ == "__main__":
    main()
