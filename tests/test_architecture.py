"""The rooms and the arrows between them, and the locked public surface."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import search

ROOT = Path(__file__).parents[1]

#: Floors, topmost first. What stands on a floor imports its own room and the floors below it.
FLOORS = {
    "search": [
        "cli", "plan", "supervisor", "worker report track", "study sklearn", "ledger", "storage",
        "aims",
        "sampling dashboard cross_validation", "spec", "text",
        "attributes problem outcome signals logs system address", "errors",
    ],
    "fmnist_hpo": [
        "cli", "report", "results", "problem classical_problem", "image_problem estimators",
        "networks classical", "bundle", "data", "constructor", "parameters",
        "atomic metrics rules environment", "errors",
    ],
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Full names of the modules and names that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its full name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@pytest.mark.parametrize("package", FLOORS)
def test_a_room_imports_only_what_stands_below_it(package: str) -> None:
    floor = {room: n for n, rooms in enumerate(FLOORS[package]) for room in rooms.split()}
    for name, path in modules(package).items():
        room = name.split(".")[1] if "." in name else None
        if room is None or room == "__main__":  # the public face, `python -m`
            continue
        for other in imports(path):
            top, _, rest = other.partition(".")
            target = rest.split(".")[0]
            if top == package and target in floor and target != room:
                assert floor[target] > floor[room], f"{name} may not import {other}"


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_can_be_seen_at_a_glance(package: str) -> None:
    for folder in {path.parent for path in modules(package).values()}:
        inside = [p for p in folder.glob("*.py") if p.name != "__init__.py"]
        assert len(inside) <= 14, f"{folder} holds {len(inside)} modules"
    for name, path in modules(package).items():
        assert len(path.read_text().splitlines()) <= 400, f"{name} is too long to read in one go"


@pytest.mark.parametrize("package", FLOORS)
def test_no_circle_of_files(package: str) -> None:
    known = modules(package)
    files = {name for name, path in known.items() if path.name != "__init__.py"}
    arrows = {name: {_module(found, known) for found in imports(known[name])} & files - {name}
              for name in files}  # fmt: skip
    while leaves := [name for name, used in arrows.items() if not used & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"these import each other: {sorted(arrows)}"


def _module(name: str, known: dict[str, Path]) -> str | None:
    return (
        name if name in known else (owner if (owner := name.rpartition(".")[0]) in known else None)
    )


def test_search_knows_neither_the_application_nor_torch() -> None:
    for name, path in modules("search").items():
        tops = {found.split(".")[0] for found in imports(path)}
        assert not tops & {"fmnist_hpo", "torch", "torchvision", "PIL"}, name


def test_the_networks_do_not_know_the_search() -> None:
    for name, path in modules("fmnist_hpo").items():
        if name.split(".")[1:2] in (["networks"], ["classical"], ["bundle"], ["data"]):
            assert not {found for found in imports(path) if found.startswith("search")}, name


def test_only_storage_names_the_private_modules_of_optuna() -> None:
    for package in FLOORS:
        for name, path in modules(package).items():
            private = {found for found in imports(path) if found.startswith("optuna.storages._")}
            assert not private or name.startswith("search.storage"), f"{name} imports {private}"


def test_only_the_evaluation_opens_the_test_images() -> None:
    known = modules("fmnist_hpo")
    naming = set()
    for name, path in (known | modules("benchmarks")).items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        words = [str(node.value) for node in nodes if isinstance(node, ast.Constant)]
        imported = {node.name for node in nodes if isinstance(node, ast.alias)}
        if any("t10k" in word for word in words) or imported & {"TEST_IMAGES", "TEST_LABELS"}:
            naming.add(name)
    # data/files.py knows their sums, to verify them
    assert naming == {"fmnist_hpo.bundle.evaluation", "fmnist_hpo.data.files"}
    using = {name for name, path in known.items() for found in imports(path)
             if found.startswith("fmnist_hpo.bundle.evaluation")}  # fmt: skip
    assert {name.split(".")[1] for name in using} <= {"bundle", "results", "report", "cli"}


def test_the_public_names_of_search() -> None:
    assert set(search.__all__) == {
        "Diverged", "Fold", "FoldContext", "NoResult", "Problem", "ProblemError", "SearchError",
        "SpecError", "StorageError", "StudyChanged", "StudyHalted", "StudyNotFound", "TrialPruned",
        "TrialContext", "TrialStopped", "create", "cross_validate", "open", "work",
    }  # fmt: skip
    for name in search.__all__:
        assert getattr(search, name) is not None


@pytest.mark.parametrize("module", ["search.cli.app", "fmnist_hpo.cli.app"])
def test_the_command_line_imports_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([m for m in ('torch', 'optuna', 'sqlalchemy', 'numpy', 'sklearn') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
