"""The generic commands, a module each: `EXAMPLE`, `add` (its arguments) and `main`."""

from collections.abc import Mapping

__all__ = ["COMMANDS"]

#: Name -> the sentence that `--help` shows. It stands here so that `--help` imports no module.
COMMANDS: Mapping[str, str] = {
    "new": "write a study file to start from, and with --problem a problem that runs and its test",
    "plan": "estimate a study before it runs: size of its space, times, memory",
    "run": "run a study to its end, or go on with it",
    "create": "create a study without running it, for workers that are started elsewhere",
    "worker": "join a study with one worker, on any machine",
    "status": "show how a study stands and who works on what; without a study, list them all",
    "trials": "list a study's trials",
    "best": "show the best trial",
    "diff": "show two trials side by side: parameters, curves, environment, cost",
    "logs": "show what the workers wrote about a trial",
    "reproduce": "train a trial again and compare it with the stored one (exit code 0: identical, "
    "3: different, 2: impossible)",
    "manifest": "print a Kubernetes Job of a study's workers",
    "completion": "print a script that completes commands and options in bash or zsh",
    "dashboard": "browse the studies of a storage in optuna-dashboard, read-only by default",
}
