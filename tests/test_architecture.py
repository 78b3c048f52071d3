"""The arrows between modules point the way they were drawn, and the public surface is locked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import search

ROOT = Path(__file__).parents[1]

#: What a module may import of this project, nearest last; a name stands for itself and all below.
ORDER = [
    "errors", "signals", "problem", "cross_validation", "space", "counting", "unsettled", "tpe",
    "spec_values", "strategies", "spec", "schema", "lease", "trials", "trial_tables",
    "study_tables", "retrying", "rdb", "optuna_storage", "searched", "embedded", "storage",
    "lineages", "ledger", "copy", "records", "plots", "beat", "checkpoint", "status",
    "evaluations", "study", "trial_run", "launch", "history", "worker", "probing", "rehearsal",
    "plan", "display", "plan_text", "service", "cv_results", "tables", "application", "verbs",
    "cli",
]  # fmt: skip
PURE = ("config", "data", "models", "training", "evaluation", "export", "bundle", "predict",
        "inference", "network_bundle", "classical", "classical_bundle", "classical_config",
        "feature_cache", "predictions", "estimators", "network_classifier")  # fmt: skip


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", files("search"), ids=lambda p: str(p.relative_to(ROOT)))
def test_search_knows_neither_the_application_nor_torch(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"fmnist_hpo", "torch", "torchvision", "PIL"}


@pytest.mark.parametrize("name", ORDER)
def test_modules_of_search_import_only_what_lies_below(name: str) -> None:
    below = set(ORDER[: ORDER.index(name)])
    if name in ("service", "verbs"):
        below.add("dashboard")  # a package of its own, which knows nothing of studies
    used = {
        found.split(".")[1]
        for found in imports(ROOT / "search" / f"{name}.py")
        if found.startswith("search.")
    }
    assert used <= below, f"{name} may not import {used - below}"


@pytest.mark.parametrize("name", PURE)
def test_the_networks_do_not_know_the_search(name: str) -> None:
    assert not {found for found in imports(ROOT / "fmnist_hpo" / f"{name}.py")
                if found.split(".")[0] == "search"}  # fmt: skip


def test_only_the_evaluation_names_the_test_images() -> None:
    naming = {
        path.name
        for path in files("fmnist_hpo")
        if any(
            isinstance(node, ast.Constant) and isinstance(node.value, str) and "t10k" in node.value
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    assert naming == {"evaluation.py", "data.py"}  # data.py knows their sums, to verify them
    importing = {path.name for path in files("fmnist_hpo")
                 if "fmnist_hpo.evaluation" in imports(path)}  # fmt: skip
    sealed = ("data", "models", "training", "problem", "image_problem", "classical",
              "classical_problem")  # fmt: skip
    assert not importing & {f"{name}.py" for name in sealed}


def test_the_public_names_of_search() -> None:
    assert set(search.__all__) == {
        "Diverged", "Fold", "FoldRun", "NoResult", "Problem", "ProblemError", "Run", "SearchError",
        "SpecError", "StorageError", "StudyChanged", "StudyHalted", "StudyNotFound", "TrialPruned",
        "TrialStopped", "create", "cross_validate", "open", "work",
    }  # fmt: skip
    for name in search.__all__:
        assert getattr(search, name) is not None


@pytest.mark.parametrize("module", ["search.cli", "fmnist_hpo.cli"])
def test_the_command_line_imports_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([m for m in ('torch', 'optuna', 'sqlalchemy', 'numpy', 'sklearn') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
