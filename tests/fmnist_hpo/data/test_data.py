"""Only whole, verified files are trained on; the split is the same for ever."""

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmnist_hpo.data import CLASSES, FILES, find, load_training, look, part, split, verify
from fmnist_hpo.data.dataset import IMAGES, LABELS
from fmnist_hpo.data.idx import content_hash, open_idx
from fmnist_hpo.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fmnist-hpo"


@pytest.fixture
def copy(fashion_dir: Path, tmp_path: Path) -> Path:
    """A copy of the data set to be damaged."""
    target = tmp_path / "copy"
    target.mkdir()
    for name in FILES:
        shutil.copyfile(fashion_dir / f"{name}.gz", target / f"{name}.gz")
    return target


def write_idx(path: Path, values: np.ndarray) -> None:  # type: ignore[type-arg]
    header = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, dtype=">u4").tobytes()
    path.write_bytes(header + values.astype(np.uint8).tobytes())


@pytest.mark.slow
def test_the_real_data(fashion_dir: Path) -> None:
    data = load_training(fashion_dir)
    with gzip.open(fashion_dir / f"{IMAGES}.gz") as stream:
        raw = np.frombuffer(stream.read(), dtype=np.uint8)[16:].reshape(60_000, 28, 28)
    assert np.array_equal(data.images, raw)
    assert data.image_size == (28, 28)
    assert data.classes == CLASSES
    assert np.bincount(data.labels).tolist() == [6000] * 10
    assert data.hashes == {name: FILES[name] for name in (IMAGES, LABELS)}
    assert verify(fashion_dir) == FILES


def test_images_are_mapped_once_and_cannot_be_changed(fashion_dir: Path, cache: Path) -> None:
    first, second = load_training(fashion_dir), load_training(fashion_dir)
    assert isinstance(first.images, np.memmap)
    mapped = cache / "idx" / FILES[IMAGES]
    assert first.images.filename == second.images.filename == mapped
    first.images[0] = 255
    assert second.images[0].max() < 255 or second.images[0].min() == 0
    assert content_hash(mapped) == FILES[IMAGES]
    assert sorted(path.name for path in mapped.parent.iterdir()) == sorted(
        (FILES[IMAGES], FILES[LABELS])
    )


def test_plain_files_are_mapped_where_they_lie(fashion_dir: Path, tmp_path: Path) -> None:
    for name in (IMAGES, LABELS):
        with gzip.open(fashion_dir / f"{name}.gz") as source, (tmp_path / name).open("wb") as out:
            shutil.copyfileobj(source, out)
    data = load_training(tmp_path)
    assert isinstance(data.images, np.memmap)
    assert data.images.filename == tmp_path / IMAGES


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte ^ 1,)))


def change_a_pixel(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content, compresslevel=1))


def no_gzip(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flip_a_byte, change_a_pixel, no_gzip, Path.unlink])
@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_damage_is_refused(
    copy: Path, fashion_dir: Path, damage: Callable[[Path], None], name: str
) -> None:
    load_training(fashion_dir)  # a cache filled with the right files must not hide the damage
    damage(copy / f"{name}.gz")
    for use in (load_training, verify):
        with pytest.raises(InputError) as caught:
            use(copy)
        message = str(caught.value)
        assert name in message
        assert "\n" not in message
        if damage is not Path.unlink:
            assert FILES[name] in message
            assert "fetch it again" in message


def test_verify_covers_the_test_files(copy: Path) -> None:
    cut(copy / "t10k-images-idx3-ubyte.gz")
    load_training(copy)
    with pytest.raises(InputError, match="t10k-images"):
        verify(copy)


@pytest.mark.slow
def test_a_damaged_cache_is_mended(fashion_dir: Path, cache: Path) -> None:
    load_training(fashion_dir)
    flip_a_byte(cache / "idx" / FILES[IMAGES])
    killed = cache / "idx" / f".{FILES[LABELS]}.k1ll3d"  # what a writer left when it was killed
    killed.touch()
    data = load_training(fashion_dir)
    assert not killed.exists()
    assert content_hash(Path(data.images.filename)) == FILES[IMAGES]  # type: ignore[attr-defined]


def test_a_cache_that_cannot_be_written(
    fashion_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="must be writable.*XDG_CACHE_HOME"):
        load_training(fashion_dir)


def test_a_cache_that_may_not_be_entered_is_one_line(
    fashion_dir: Path, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(closed / "inside"))
    with pytest.raises(InputError, match="must be writable.*Permission denied.*XDG_CACHE_HOME"):
        load_training(fashion_dir)


def test_a_user_without_a_home_directory_needs_no_cache_for_plain_files(
    fashion_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "HOME", "FMNIST_HPO_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("fmnist_hpo.data.dataset.SYSTEM_DIRECTORY", fashion_dir)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_000)  # of nobody, as in a container
    assert find() == fashion_dir
    with pytest.raises(InputError, match="got none of user 2000000000; set HOME or XDG_CACHE"):
        load_training(fashion_dir)


def test_another_data_set(tmp_path: Path) -> None:
    images = np.arange(12 * 9 * 7).reshape(12, 9, 7) % 256
    write_idx(tmp_path / IMAGES, images)
    write_idx(tmp_path / LABELS, np.arange(12) % 3)
    data = load_training(tmp_path, known=False)
    assert np.array_equal(data.images, images)
    assert data.classes == ("0", "1", "2")
    assert data.image_size == (9, 7)
    assert data.hashes[IMAGES] == content_hash(tmp_path / IMAGES)
    with pytest.raises(InputError, match="altered"):
        load_training(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 4, 4)), np.array([0, 1]), r"need images \(n, rows, columns\)"),
        (np.zeros((3, 4)), np.array([0, 1, 1]), r"need images \(n, rows, columns\)"),
        (np.zeros((3, 4, 4)), np.array([0, 0, 0]), "at least 2 classes"),
        (np.zeros((2, 1, 2**20 + 1)), np.array([0, 1]), "at most 1,048,576 pixels, got 1x1048577"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path,
    images: np.ndarray,  # type: ignore[type-arg]
    labels: np.ndarray,  # type: ignore[type-arg]
    message: str,
) -> None:
    write_idx(tmp_path / IMAGES, images)
    write_idx(tmp_path / LABELS, labels)
    with pytest.raises(InputError, match=message):
        load_training(tmp_path, known=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an idx file"),
        (b"\x89PNG\r\n", "must be an idx file"),
        (bytes((0, 0, 8, 3, 0, 0)), "must be an idx file"),
        (bytes((0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0)), "must be an idx file"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 3)), "needs 12 bytes, found 11"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 1, 1, 2, 3)), "needs 9 bytes, found 11"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 0)), "truncated or padded"),
    ],
)
def test_no_idx_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_idx(tmp_path / "x")


def test_where_it_is_looked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FMNIST_HPO_DATA", raising=False)
    monkeypatch.setattr("fmnist_hpo.data.dataset.SYSTEM_DIRECTORY", tmp_path / "system")
    assert look() is None
    (cache / "fashion-mnist").mkdir(parents=True)
    assert find() == cache / "fashion-mnist"
    (tmp_path / "system").mkdir()
    assert find() == tmp_path / "system"
    monkeypatch.setenv("FMNIST_HPO_DATA", str(tmp_path))
    assert find() == tmp_path
    assert find(cache) == cache
    with pytest.raises(InputError, match="does not exist"):
        find(tmp_path / "nowhere")


def test_a_folder_that_may_not_be_entered_is_one_line(closed: Path) -> None:
    for use in (look, find, load_training, verify):
        with pytest.raises(InputError, match="cannot be read: Permission denied; check") as caught:
            use(closed / "inside")
        assert "\n" not in str(caught.value)


def test_a_part_has_the_bounds_that_its_error_says(fashion_dir: Path) -> None:
    data = load_training(fashion_dir)
    for size in (10, 59_990, 60_000):
        assert len(part(data, size)) == size
    for size in (-1, 0, 9, 59_991, 59_995, 60_001):
        with pytest.raises(InputError, match="need a part of 10 to 59,990 .*, or all 60,000"):
            part(data, size)


def test_a_part_needs_two_images_of_each_class(tmp_path: Path) -> None:
    write_idx(tmp_path / IMAGES, np.zeros((9, 4, 4)))
    write_idx(tmp_path / LABELS, np.array([0, 1, 0, 1, 0, 1, 0, 1, 5]))
    data = load_training(tmp_path, known=False)
    with pytest.raises(InputError, match="got 1 of class '5'; use all 9 images"):
        part(data, 6)
    assert len(part(data, 9)) == 9


def test_split_is_stratified_and_disjoint(fashion_dir: Path) -> None:
    data = load_training(fashion_dir)
    part = split(data)
    assert np.bincount(data.labels[part.train]).tolist() == [4800] * 10
    assert np.bincount(data.labels[part.validation]).tolist() == [1200] * 10
    together = np.sort(np.concatenate([part.train, part.validation]))
    assert np.array_equal(together, np.arange(60_000))


def test_split_never_changes(fashion_dir: Path) -> None:
    """Every trial ever recorded names this hash."""
    part = split(load_training(fashion_dir))
    assert part.hash == "918faa1745c202f6e9c4da78e2d1af5fbd7d948fba15207afe9752249f71f546"
    assert part.validation[:5].tolist() == [0, 3, 7, 8, 9]


def test_split_depends_on_seed_fraction_and_data(fashion_dir: Path) -> None:
    data = load_training(fashion_dir)
    hashes = {
        split(data).hash,
        split(data, seed=1).hash,
        split(data, validation_fraction=0.1).hash,
        split(data, validation_fraction=0.0).hash,
    }
    assert len(hashes) == 4
    assert split(data, seed=1).hash == split(data, seed=1).hash
    overlap = np.intersect1d(split(data).validation, split(data, seed=1).validation)
    assert 2200 < len(overlap) < 2600  # 2,400 expected of independent draws
    assert len(split(data, validation_fraction=0.0).validation) == 0


@pytest.mark.slow
@pytest.mark.parametrize("bad", [{"validation_fraction": 1.0}, {"seed": -1}])
def test_split_refuses(fashion_dir: Path, bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="need "):
        split(load_training(fashion_dir), **bad)  # type: ignore[arg-type]


def test_opening_and_splitting_import_nothing_slow(fashion_dir: Path) -> None:
    code = (
        "import sys; from fmnist_hpo.problem import FashionProblem;"
        f"FashionProblem({{'dir': {str(fashion_dir)!r}}}).fingerprint();"
        "assert not {'torch', 'sklearn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("form", ["{}", "{}.gz"])
def test_a_folder_in_the_place_of_a_file_is_named_as_one(tmp_path: Path, form: str) -> None:
    for name in FILES:
        (tmp_path / form.format(name)).mkdir()
    for use in (load_training, verify):
        with pytest.raises(InputError, match=r"need the file .*train-images.*found a folder"):
            use(tmp_path)


def test_a_data_directory_that_is_a_file_is_named_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"x")
    monkeypatch.setenv("FMNIST_HPO_DATA", str(file))
    for use, words in ((find, "is a file; name one that"), (look, "is a file; name one that")):
        with pytest.raises(InputError, match=words):
            use()
    for use in (load_training, verify):
        with pytest.raises(InputError, match="need a folder with .* a file; name another"):
            use(file)


def test_a_user_without_a_home_directory(monkeypatch, tmp_path):
    for name in ("HOME", "XDG_CACHE_HOME", "FMNIST_HPO_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)  # a user that no list knows
    monkeypatch.setattr("fmnist_hpo.data.dataset.SYSTEM_DIRECTORY", tmp_path)
    assert look() == tmp_path
    monkeypatch.setattr("fmnist_hpo.data.dataset.SYSTEM_DIRECTORY", tmp_path / "system")
    with pytest.raises(InputError, match="got none of user 54321; set HOME or XDG_CACHE"):
        look()
