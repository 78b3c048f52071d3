"""The service knows nothing of images or networks: it tunes scikit-learn on the digits as well."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

import search

SPEC = f"""
problem = "{__name__}:Digits"
name = "digits"
metric = "accuracy"
direction = "maximize"
budget = {{ trials = 15 }}
pruner = {{ name = "median", n_startup_trials = 5 }}
space = {{ alpha = {{ float = [1e-6, 1e2], log = true }} }}
"""


class Digits:
    def __init__(self, settings) -> None:
        images, labels = load_digits(return_X_y=True)
        self.train, self.test = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])

    def check(self, params) -> None: ...
    def fingerprint(self):
        return {"images": "digits"}

    def environment(self):
        return {"numpy": np.__version__}

    def run(self, run: search.TrialContext) -> float:
        model = SGDClassifier(alpha=run.params["alpha"], random_state=run.seed % 2**32)
        for epoch in range(1, 11):
            model.partial_fit(*self.train, classes=range(10))
            run.report(epoch, model.score(*self.test))
        return model.score(*self.test)


@pytest.mark.slow
def test_scikit_learn_on_the_digits(tmp_path: Path) -> None:
    study = search.create(SPEC, storage=f"sqlite:///{tmp_path}/digits.db")
    search.work(study)
    status = study.status()
    assert (status.ended, status.complete + status.pruned) == (15, 15)
    again = SGDClassifier(alpha=study.best.params["alpha"]).fit(*Digits({}).train)
    assert again.score(*Digits({}).test) > 0.8
    assert study.best.value > 0.85
