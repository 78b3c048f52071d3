"""The package as others install it: from a wheel, outside of any checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
