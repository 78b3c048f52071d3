"""Every command and every snippet of README and documentation runs as it stands.

A page's blocks run in their order, in an empty directory of the page's own:

- a block with a caption is written to the file of that name;
- `console`: what stands behind `$ ` is run by bash; `# exit code N` behind it says how it must end;
- `python`: is run by Python.

Both run in processes that have loaded the libraries already, but for what a shell has to run.

A study of Fashion-MNIST gets a slice of it. Blocks of another
language (`text`) are what a reader types on other machines. Containers and the README's two
commands are run by tests/containers and by .ci/run.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from slices import write_slice
from warm_process import run_warm

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REMOTE = "postgresql://user@host/studies"  # stands on the pages for a server of the reader's
BLOCK = re.compile(
    r"^```(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n\n)?(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Block:
    language: str
    caption: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text())
    return [Block(language=a, caption=b or None, text=c) for a, b, c in found]


def commands(text: str) -> list[tuple[str, int]]:
    """Each command of a `console` block with the exit code it must have."""
    found = []
    for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        command, _, code = line.partition("# exit code ")
        found.append((command.strip(), int(code or 0)))
    return found


def runnable(page: Path) -> bool:
    return any(block.language in ("console", "python") or block.caption for block in blocks(page))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: page.stem
)
def test_a_page_runs_as_it_stands(page: Path, tmp_path: Path, postgres_url: str) -> None:
    write_slice(tmp_path / "data", train=4000)
    shoe = np.zeros((28, 28), np.uint8)
    shoe[10:20, 4:24] = 200
    Image.fromarray(shoe).save(tmp_path / "shoe.png")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    # An address with a socket's directory has no host, so it goes in as a whole.
    url = sa.make_url(postgres_url).render_as_string(hide_password=False)

    def warm(module: str, *argv: str) -> "subprocess.CompletedProcess[str]":
        return run_warm(module, *argv, folder=tmp_path, environment=environment, timeout=600)

    def shell(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=600, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def check(what: str, done: "subprocess.CompletedProcess[str]", code: int = 0) -> None:
        said = f"{what}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == code, said
        assert "Traceback" not in done.stderr, said

    for block in blocks(page):
        if block.caption is not None:
            text = block.text
            if "fmnist_hpo.problem" in text:
                head, _, rest = text.partition("[data]\n")
                text = f'{head}[data]\ndir = "data"\n{rest}'
            (tmp_path / block.caption).write_text(text)
        elif block.language == "console":
            for text, code in commands(block.text):
                command = text.replace(REMOTE, f"'{url}'")
                program, *argv = shlex.split(command, comments=True)
                plain = program == "fmnist-hpo" and not set("|&;<>$*") & set(text)
                done = warm("fmnist_hpo.cli", *argv) if plain else shell(command)
                check(command, done, code)
        elif block.language == "python":
            (tmp_path / "snippet.py").write_text(block.text)
            check(block.text, warm("snippet"))


def test_links_within_the_documentation_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
