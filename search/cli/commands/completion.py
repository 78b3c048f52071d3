"""`completion`: print a script that completes the command line in a shell."""

import argparse
from pathlib import Path

from search.cli.application import Application
from search.errors import SearchError

EXAMPLE = "{prog} completion bash > ~/.local/share/bash-completion/completions/{prog}"
_FILES = ("STUDY", "FILE", "DIR", "BUNDLE", "IMAGE")  # of arguments that may be a path


def add(parser: argparse.ArgumentParser, app: Application) -> None:  # noqa: ARG001
    parser.add_argument("shell", choices=("bash", "zsh"), metavar="SHELL", help="bash or zsh")


def main(args: argparse.Namespace, app: Application) -> int:
    import shtab

    if " " in app.prog:
        raise SearchError(
            f"a shell completes the name of one program, got {app.prog!r}; use an installed "
            "command, such as fmnist-hpo"
        )
    for command in args.top.commands.values():
        command.load()
        for action in command._actions:
            if action.type is Path or action.metavar in _FILES:
                action.complete = shtab.FILE
    print(shtab.complete(args.top, shell=args.shell))
    return 0
