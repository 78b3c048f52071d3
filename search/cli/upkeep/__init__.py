"""The generic commands that change studies that are there, a module each, as in `commands`."""

from collections.abc import Mapping

__all__ = ["COMMANDS"]

#: Name -> the sentence that `--help` shows.
COMMANDS: Mapping[str, str] = {
    "extend": "add trials, hours or steps to the budget of a study that runs or is finished",
    "add": "add one trial with given parameters to a study, next in turn",
    "amend": "change what a study searches, by a changed study file",
    "stop": "end a running or paused trial for good",
    "pause": "let a study rest: its workers release their trials and wait",
    "resume": "let a paused study go on",
    "track": "write a study's trials to MLflow, TensorBoard or Weights & Biases; "
    "a repeated call writes only new ones",
    "copy-study": "copy a study with its ledger to another storage",
    "delete": "delete a study with its trials, checkpoints and artifacts",
}
