"""The command line: one parser, and one module per command, imported when it is chosen.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from search.cli import commands, upkeep
from search.cli.application import Application
from search.cli.arguments import log_level
from search.errors import SearchError, nearest
from search.logs import checked_output, show_records
from search.signals import interruptible
from search.system import require_linux

__all__ = ["GENERIC", "CommandModule", "main", "run_command"]

#: The generic commands: package -> name -> the sentence that `--help` shows.
GENERIC: Mapping[str, Mapping[str, str]] = {
    module.__name__: module.COMMANDS for module in (commands, upkeep)
}
MOST_CHARACTERS = 4_000  # of an error


class CommandModule(Protocol):
    """What the module of a command holds."""

    #: A command line to show under the help; `{prog}` stands for the program's name.
    EXAMPLE: str

    def add(self, parser: argparse.ArgumentParser, app: Application) -> None:
        """Add the command's arguments."""
        ...

    def main(self, args: argparse.Namespace, app: Application) -> int:
        """Run the command; returns the exit code."""
        ...


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line.

    Attributes:
        commands: the parser of each command; of the top one.
    """

    commands: Mapping[str, "_CommandParser"]

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{_line(message)}; see `{self.prog} --help`\n")


class _CommandParser(_Parser):
    """The parser of one command. Its module is imported when the command line names it."""

    def __init__(self, *, app: Application, module: str, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._app = app
        self._module = module
        self._loaded: CommandModule | None = None

    def load(self) -> None:
        """Import the command's module and add its arguments, once."""
        if self._loaded is not None:
            return
        module = cast(CommandModule, importlib.import_module(self._module))
        self._loaded = module
        module.add(self, self._app)
        lines = self.add_mutually_exclusive_group()
        lines.add_argument("-v", "--verbose", action="store_true", help="show details too")
        lines.add_argument("--quiet", action="store_true", help="show warnings and errors only")
        self.epilog = f"example:\n  {module.EXAMPLE.format(prog=self._app.prog)}"
        self.set_defaults(main=module.main)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what stands behind `--` is kept as `passed_on`, for those that take it."""
        self.load()
        if getattr(self._loaded, "PASSES_ON", False) and "--" in args:
            split = args.index("--")
            args, passed_on = args[:split], args[split + 1 :]
            self.set_defaults(passed_on=passed_on)
        found, others = super().parse_known_args(args, namespace)
        if others:  # else the top parser refuses them, and names its own help
            self.error(f"unrecognized arguments: {' '.join(others)}")
        return found, others


class _Version(argparse.Action):
    """Prints the version; it is looked up only when asked for, which takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib import metadata

        print(f"fmnist-hpo {metadata.version('fmnist-hpo')}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m search`: the generic commands alone."""
    return run_command(
        Application(),
        "Run hyperparameter searches.",
        GENERIC,
        argv,
    )


def run_command(
    app: Application,
    description: str,
    packages: Mapping[str, Mapping[str, str]],
    argv: Sequence[str] | None,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Run the command that `argv` names; a user's error becomes one line and exit code 2.

    Args:
        packages: package that holds modules of commands -> name of a command -> its sentence of
            help. The module of `copy-study` is called `copy_study`.
        argv: the arguments; None for those of this process.
        errors: further exceptions that are a user's errors.
    """
    try:
        require_linux()
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _current_folder_last()
    argv = sys.argv[1:] if argv is None else list(argv)
    names = [name for known in packages.values() for name in known]
    args = argparse.Namespace()
    user_errors: tuple[type[Exception], ...] = (SearchError, *errors)
    try:
        with checked_output():
            top = _parser(app, description, packages)
            if not argv:
                top.print_help()
                return 2
            _check_name(argv, names, top)
            top.parse_args(argv, args)
            _need_folder()
            show_records(partial(print, file=sys.stderr, flush=True), level=log_level(args))
            with interruptible():
                app.prepare(args)
                return int(args.main(args, app))
    except user_errors as error:
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        from search.cli.hints import complete  # not before: it imports SQLAlchemy

        storage = getattr(args, "storage", None)
        print(_line(complete(str(error), app.prog, names, storage)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone, as in `trials | head`
        return 0


def _line(message: str) -> str:
    """The error that is shown: one line, of bounded length, that no terminal obeys."""
    from search.text import printable, shorten  # not before: it imports Optuna

    line = "\\n".join(message.splitlines())  # names of files and studies may hold line ends
    return f"error: {printable(shorten(line, MOST_CHARACTERS))}"


def _parser(
    app: Application, description: str, packages: Mapping[str, Mapping[str, str]]
) -> _Parser:
    top = _Parser(
        prog=app.prog,
        description=description,
        epilog=f"`{app.prog} COMMAND --help` shows the options of a command, with an example.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    added = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_CommandParser)
    for package, known in packages.items():
        for name, sentence in known.items():
            added.add_parser(
                name,
                help=sentence,
                description=sentence[0].upper() + sentence[1:] + ".",
                app=app,
                module=f"{package}.{name.replace('-', '_')}",
            )
    top.commands = added.choices
    top.set_defaults(top=top)
    return top


def _check_name(argv: Sequence[str], known: Sequence[str], top: _Parser) -> None:
    """Exit with one line if the first word is no command."""
    name = next((word for word in argv if not word.startswith("-")), None)
    if name is None or name in known:
        return
    near = nearest(name, known)
    hint = f"did you mean `{top.prog} {near}`?" if near else f"it is one of {', '.join(known)}"
    top.exit(2, f"{_line(f'there is no command {name!r}; {hint}')}\n")


def _need_folder() -> None:
    """Raise `SearchError` where the current folder is gone, below which commands read and write."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise SearchError(
            "a command needs the folder that it is run in, got one that was deleted; change to "
            "another"
        ) from error


def _current_folder_last() -> None:
    """Undo that `python -m` puts the current folder first: a file in it replaces no module."""
    with suppress(FileNotFoundError):  # it was deleted
        if not sys.flags.safe_path and sys.path[:1] == [str(Path.cwd())]:
            sys.path.append(sys.path.pop(0))
