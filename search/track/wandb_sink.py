"""Writes trials as offline runs of Weights & Biases, which `wandb sync` uploads.

Nothing is sent: a run is made offline, and the client's own error reports are switched off.
"""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from search.track.folder_sink import FolderSink
from search.track.records import TrackedTrial

__all__ = ["WandbSink"]


class WandbSink(FolderSink):
    """See `FolderSink`; `wandb sync DIR/STUDY/trial-*/wandb/offline-run-*` uploads the runs.

    A run is named after its trial and grouped by its study. Its identifier is made of the study's
    and the trial's number, so what is uploaded twice is one run.
    """

    kind = "wandb"

    def load(self) -> None:
        """See `FolderSink.load`."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        import wandb

        self.errors = (*FolderSink.errors, wandb.Error)

    def fill(self, folder: Path, trial: TrackedTrial) -> None:
        """See `FolderSink.fill`."""
        import wandb

        run = wandb.init(
            project=self.origin.name,
            id=f"{self.origin.uid}-{trial.number}",
            name=f"trial-{trial.number:05}",
            config=trial.params_and(state=trial.state, tags=dict(trial.tags)),
            dir=folder,
            reinit="create_new",
            settings=wandb.Settings(
                mode="offline", silent=True, console="off", disable_code=True, disable_git=True,
                x_disable_stats=True, x_disable_machine_info=True,
            ),
        )  # fmt: skip
        try:
            for step, values in sorted(_by_step(trial).items()):
                run.log(values, step=step)
            run.summary.update({f"final/{name}": value for name, value in trial.final.items()})
        finally:
            run.finish(exit_code=int(trial.state == "fail"))


def _by_step(trial: TrackedTrial) -> dict[int, dict[str, Any]]:
    """The points of all curves at each step; a run takes the steps in order."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for name, step, value, at in trial.points():
        found[step] |= {name: value, "_timestamp": at}
    return found
