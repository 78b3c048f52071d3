"""scikit-learn's own tests of RandomizedSearchCV, with our class in its place."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.model_selection import RandomizedSearchCV
from sklearn.utils._test_common.instance_generator import INIT_PARAMS, PER_ESTIMATOR_XFAIL_CHECKS
from sklearn.utils.estimator_checks import parametrize_with_checks

from search.sklearn import StudySearchCV

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
MODULES = [
    "sklearn.model_selection.tests.test_search",
    "sklearn.tests.test_metaestimators",
    "sklearn.tests.test_metaestimators_metadata_routing",
]
#: It compares the candidates with those that ParameterSampler draws for random_state=0.
EXACT_DRAWS = "test_search_with_2d_array"


@pytest.mark.parametrize(
    ("sampler", "modules", "least", "failing"),
    [("random", MODULES, 60, set()), ("tpe", MODULES[:1], 30, {EXACT_DRAWS})],
)
def test_passes_what_randomized_search_passes(
    tmp_path: Path, sampler: str, modules: list[str], least: int, failing: set[str]
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parents[2] / 'support'}",
        "STUDY_SEARCH_SAMPLER": sampler,
    }
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path)]
    command += ["-p", "no:cacheprovider", "-p", "randomized_search_replaced", "-q", "-rf"]
    done = subprocess.run(
        [*command, "--pyargs", *modules],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert set(re.findall(r"^FAILED \S*::(\w+)", done.stdout, re.MULTILINE)) == failing
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout[-2000:] + done.stderr[-2000:]
    assert int(passed[1]) >= least


def _instances() -> list[StudySearchCV]:
    """What scikit-learn checks RandomizedSearchCV with, and the same with a study in memory."""
    given = INIT_PARAMS[RandomizedSearchCV]
    return [StudySearchCV(**params, **more) for params in given for more in ({}, {"timeout": 600})]


def _expected(search: Any) -> dict[str, str]:
    return PER_ESTIMATOR_XFAIL_CHECKS[RandomizedSearchCV]


@pytest.mark.filterwarnings("default")
@parametrize_with_checks(_instances(), expected_failed_checks=_expected)
def test_passes_the_estimator_checks(estimator: Any, check: Any) -> None:
    check(estimator)
