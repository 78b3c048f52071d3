"""The package as others install it: from a wheel, outside of any checkout."""

import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked: what an installation puts on the path."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        ["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_the_studies_that_ship_are_found_by_name(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from fmnist_hpo import cli; "
        "from fmnist_hpo.cli.application import FashionApplication; "
        "from search.cli.find_study import find_spec; "
        "print(cli.__file__); print(*(find_spec(name, FashionApplication().studies).name "
        "for name in ('baselines', 'svm', 'classical/hog_svm')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    module, *names = done.stdout.split()
    assert Path(module).is_relative_to(installed)
    assert names == ["baselines", "svm", "hog_svm"]


def test_nothing_but_the_packages_is_installed(installed: Path) -> None:
    tops = {path.name.split("-")[0] for path in installed.iterdir()}
    assert tops == {"search", "fmnist_hpo"}


def test_every_dependency_has_one_version_here_and_no_address() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    direct = [
        *project["project"]["dependencies"],
        *chain.from_iterable(project["project"]["optional-dependencies"].values()),
        *(line for group in project["dependency-groups"].values() for line in group
          if isinstance(line, str) and not line.startswith("fmnist-hpo[")),
    ]  # fmt: skip
    pins = [Requirement(line) for line in project["tool"]["uv"]["constraint-dependencies"]]
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    names = [pin.name for pin in here]
    assert len(names) == len(set(names))
    assert {Requirement(line).name for line in direct} <= set(names)
    assert all(str(pin.specifier).startswith("==") and pin.url is None for pin in pins)
