"""What an application adds to the generic verbs of the command line."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.study import Study

__all__ = ["DEFAULT_STORAGE", "PASSWORD_VARIABLE", "Application", "say_best"]

DEFAULT_STORAGE = "sqlite:///runs/studies.db"
PASSWORD_VARIABLE = "FMNIST_HPO_PASSWORD"


@dataclass(frozen=True, kw_only=True)
class Application:
    """What an application adds to the generic verbs.

    Attributes:
        prog: the command's name, as it stands in examples.
        studies: folder of the study files that ship with it.
        prepare: called with the parsed arguments before a study is touched.
        describe: (label, text) lines on data and device, shown before a run.
        gpus: indices of the GPUs that workers may use.
        finish: called when all trials have ended; returns the exit code. By default it names the
            best trial.
        reproduced: called with a trial after the verdict on it, to say what that does not cover.
        add_options: called with a verb and its parser, to add options.
    """

    prog: str = "python -m search"
    studies: Path | None = None
    prepare: Callable[[argparse.Namespace], None] = lambda args: None
    describe: Callable[["Study"], list[tuple[str, str]]] = lambda study: []
    gpus: Callable[[], tuple[str, ...]] = lambda: ()
    finish: Callable[["Study", argparse.Namespace], int] = lambda study, args: say_best(study)
    reproduced: Callable[["Study", "FrozenTrial"], None] = lambda study, trial: None
    add_options: Callable[[str, argparse.ArgumentParser], None] = lambda verb, parser: None


def say_best(study: "Study") -> int:
    """Print the best trial; returns the exit code 0.

    Raises:
        NoResult: no trial is complete.
    """
    from search.text import show_trial

    best = study.best
    print(f"\nbest trial  {best.number}: {show_trial(best, study.params(best))}")
    print(f"{study.spec.metric:<11} {best.value:.6g}")
    return 0
