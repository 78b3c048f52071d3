"""`new`: write a study file to start from, and with `--problem` a problem and its test."""

import argparse
import keyword
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from search.cli.application import Application
from search.errors import SearchError
from search.spec.values import study_name_of

EXAMPLE = "{prog} new mine --problem"
TEMPLATES = "search.cli.templates"


def add(parser: argparse.ArgumentParser, app: Application) -> None:
    parser.add_argument("name", metavar="NAME", help="the name of the study, and of its file")
    parser.add_argument(
        "--problem",
        action="store_true",
        help="also write NAME.py, a problem of your own that runs as it is, and test_NAME.py",
    )
    app.add_options("new", parser)


def main(args: argparse.Namespace, app: Application) -> int:
    name = study_name_of(args.name, "new")
    module = name.replace("-", "_").replace(".", "_")
    if args.problem:
        _check_module(module, name)
    study, problem, test = Path(f"{name}.toml"), Path(f"{module}.py"), Path(f"test_{module}.py")
    values = {"name": name, "module": module, "prog": app.prog}
    template = app.study_template(values)
    if args.problem:
        texts = {
            study: _filled("problem.toml", values),
            problem: _filled("problem.py.txt", values),
            test: _filled("test_problem.py.txt", values),
        }
    else:
        texts = {study: template or _filled("study.toml", values)}
    _write(texts)
    for path in texts:
        print(f"wrote {path}")
    if args.problem:
        print(f"next  python -m pytest {test}")
    elif template is None:
        print(f"next  name the class of your problem in {study}")
        return 0
    print(f"next  {app.prog} plan {study}")
    print(f"next  {app.prog} run {study}")
    return 0


def _check_module(module: str, name: str) -> None:
    """Refuse a problem whose module Python could not import, or of which it would take another."""
    if not module.isidentifier():
        raise SearchError(
            f"a problem's module begins with a letter, got {name!r}; choose another name"
        )
    if keyword.iskeyword(module):
        raise SearchError(
            f"a problem's module is imported by its name, got the keyword {name!r}; choose another "
            "name"
        )
    found = None if Path(f"{module}.py").exists() else find_spec(module)
    if found is not None and found.origin is not None:  # else a folder, which a file comes before
        raise SearchError(
            f"a problem's module needs a name of its own, got {name!r}, and Python has a module "
            f"{module} already; choose another name"
        )


def _filled(template: str, values: dict[str, str]) -> str:
    text = resources.files(TEMPLATES).joinpath(template).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _write(texts: dict[Path, str]) -> None:
    """Write all of the files or none; one that exists is not overwritten."""
    for path in texts:
        if path.exists() or path.is_symlink():
            raise SearchError(f"{path} exists already, and `new` overwrites nothing; rename it")
    written: list[Path] = []
    try:
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink()
        raise SearchError(f"cannot write {error.filename}: {error.strerror}") from error
