"""Networks as a problem of the search service."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from fmnist_hpo.networks import config
from search.cross_validation import Fold, FoldContext, cross_validate
from search.errors import ProblemError
from search.problem import Cost, Diverged, Outline, TrialContext, TrialStopped

if TYPE_CHECKING:
    from fmnist_hpo.bundle.export import Model
    from fmnist_hpo.data import Split
    from fmnist_hpo.networks.training import Epoch

__all__ = ["FashionProblem"]


class FashionProblem(ImageProblem):
    """An ANN or a CNN. The steps of a trial are epochs or parts of them, else folds.

    Beside the validation accuracy a study may aim at, or bound, `parameters`, `mflops` and
    `model_mb`, which are known in advance, and `latency_ms`, which is measured after a training.
    """

    #: See `search.problem.Problem`.
    measures = ("latency_ms",)

    def check(self, params: Mapping[str, Any]) -> None:
        """See `search.problem.Problem.check`.

        The data are read only where `report_every` needs so many batches in an epoch, or whitening
        images of some size.
        """
        try:
            _, how = self._parse(params)
            if how.reports_per_epoch > 1 and self.fewest_images is not None:
                how.batches(self.fewest_images)
        except InputError as error:
            raise ProblemError(str(error)) from error
        if how.patience is not None and self.folds is not None:
            raise ProblemError(
                f"patience needs one validation part, got patience={how.patience} with "
                f"{self.folds} folds, whose refit has none; leave patience out"
            )

    def _parse(
        self, params: Mapping[str, Any]
    ) -> tuple[config.NetworkConfig, config.TrainingConfig]:
        """The two records, which suit the images.

        Raises:
            InputError: a rule is broken.
        """
        network, how = config.parse(params)
        if (
            isinstance(network, config.CNNConfig)
            and network.whitening
            and self.fewest_images is not None
        ):
            network.map_size(self.data.image_size)
        return network, how

    def refit_params(
        self, params: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """See `search.problem.Refitting.refit_params`.

        Nothing is validated in such a training, so it has neither `patience` nor `report_every`.
        """
        for name in ("patience", "report_every"):
            if name in overrides:
                raise ProblemError(
                    f"{name} is for trainings that are validated, got {name} = {overrides[name]}; "
                    "leave it out of [refit]"
                )
        made = {**params, **overrides}
        made.pop("report_every", None)
        patience = made.pop("patience", None)
        if patience is not None and "epochs" not in overrides:
            raise ProblemError(
                f"a trial with patience = {patience} ends by itself, and a refit has nothing to "
                "validate on; add epochs to [refit]"
            )
        try:
            self._parse(made)
        except InputError as error:
            raise ProblemError(str(error)) from error
        return made

    def environment(self) -> Mapping[str, str]:
        """See `search.problem.Problem.environment`."""
        from fmnist_hpo.environment import describe_torch

        return describe_torch()

    def static_metrics(self, params: Mapping[str, Any]) -> Mapping[str, float]:
        """See `search.problem.StaticMetrics` and `networks.probe.size`."""
        from fmnist_hpo.networks import probe

        network, _ = config.parse(params)
        return probe.size(network, self.data.image_size, len(self.data.classes))

    def outline(self, params: Mapping[str, Any]) -> Outline:
        """See `search.problem.Probing.outline`; the size is the FLOPs of all forward passes."""
        from fmnist_hpo.networks import probe

        network, how = config.parse(params)
        data, images = self.data, how.epochs * sum(len(split.train) for split in self.splits)
        return Outline(
            size=float(probe.flops(network, data.image_size, len(data.classes)) * images)
            * how.relative_cost,
            remarks=probe.remarks(network, data.image_size),
        )

    def probe(self, params: Mapping[str, Any]) -> Cost:
        """See `search.problem.Probing.probe`."""
        from fmnist_hpo.networks import probe, training

        network, how = config.parse(params)
        with training.memory_errors():
            cost = probe.measure_step(network, how, self.data, self.splits[0])
        if self.folds is None:
            steps, step_seconds, start_seconds = how.steps, cost.step_seconds, cost.start_seconds
        else:
            fit_seconds = cost.start_seconds + how.steps * cost.step_seconds
            steps, step_seconds, start_seconds = self.folds, fit_seconds, 0.0
        return Cost(
            steps=steps, step_seconds=step_seconds, start_seconds=start_seconds, share=cost.share
        )

    def last_step(self, params: Mapping[str, Any]) -> int:
        """See `search.problem.Resumable.last_step`.

        With a constant learning rate every step is a valid end of the training: no value depends on
        how long it goes on.
        """
        _, how = config.parse(params)
        if self.folds is not None:
            raise ProblemError(
                "the steps of a cross-validation are folds, which no curve connects; use "
                'mode = "holdout"'
            )
        if how.schedule != "constant":
            raise ProblemError(
                f'schedule = "{how.schedule}" lowers the learning rate towards the last epoch, so '
                "that earlier values do not count for themselves; leave schedule out, with "
                'optimizer = "schedule-free"'
            )
        if how.resize < 1:
            raise ProblemError(
                f"resize = {how.resize:g} grows the images over the epochs, so that earlier values "
                "do not count for themselves; leave resize out, or put it into [refit]"
            )
        if how.patience is not None:
            raise ProblemError(
                f"patience = {how.patience} ends a training by itself, so that it has no known "
                "last step; leave patience out"
            )
        return how.steps

    def run(self, trial: TrialContext, /) -> float | Mapping[str, float]:
        """Train one network, or one per fold; see `search.problem.Problem.run`.

        The first metric is the validation accuracy of the last step, or with patience that of the
        best step; with folds it is their mean.
        """
        accuracy = self._accuracy(trial)
        if "latency_ms" not in trial.wanted:
            return accuracy
        from fmnist_hpo.networks import probe

        network, _ = config.parse(trial.params)
        latency = probe.latency_ms(network, self.data.image_size, len(self.data.classes))
        return {"val_accuracy": accuracy, "latency_ms": latency}

    def _accuracy(self, trial: TrialContext) -> float:
        if self.folds is not None:
            return cross_validate(trial, self.folds, self._fold)
        (split,) = self.splits
        for epoch in self._epochs(trial, split):
            figures = {name: x for name, x in vars(epoch.metrics).items() if x is not None}
            trial.report(epoch.number, figures["val_accuracy"], **figures)
        return epoch.result().val_accuracy

    def _fold(self, fold: FoldContext) -> Fold:
        """Train on one fold.

        The training score is the running accuracy of the last epoch.
        """
        *_, last = self._epochs(fold, self.splits[fold.index])
        result = last.result()
        return Fold(
            fold_score=result.val_accuracy,
            fold_train_score=result.history[-1].train_accuracy,
            fit_seconds=sum(epoch.seconds for epoch in result.history),
            score_seconds=0.0,  # validation after each epoch is part of `fit_seconds`
        )

    def _epochs(self, trial: TrialContext | FoldContext, split: "Split") -> Iterator["Epoch"]:
        """Train on a split from the trial's checkpoint, and save a checkpoint after each step."""
        from fmnist_hpo.networks import training

        network, how = config.parse(trial.params)
        try:
            for epoch in training.epochs(
                network,
                how,
                self.data,
                split,
                seed=trial.seed,
                resume=trial.load_checkpoint(),
                should_stop=lambda: trial.should_stop,
            ):
                if not epoch.resumed:
                    trial.save_checkpoint(epoch.save())
                yield epoch
        except training.Diverged as error:
            raise Diverged(str(error)) from error
        except training.Interrupted as stopped:
            trial.save_checkpoint(stopped.checkpoint)
            raise TrialStopped from stopped

    def is_whole(self, checkpoint: bytes, curves: Mapping[str, Sequence[float | None]]) -> bool:
        """See `ImageProblem.is_whole`."""
        from fmnist_hpo.networks import training

        return len(training.history(checkpoint)) == len(curves["val_accuracy"])

    def model(
        self,
        params: Mapping[str, Any],
        split: "Split",
        *,
        seed: int,
        curves: Mapping[str, Sequence[float | None]],
        checkpoint: bytes | None,
        save: Callable[[bytes], None],
        say: Callable[[str], None],
    ) -> "Model":
        """See `ImageProblem.model`.

        Patience has no effect without a validation part. Training then stops after as many steps
        as it took the trial to its best.
        """
        from fmnist_hpo.networks import training
        from fmnist_hpo.networks.bundles import network as network_bundle
        from search.text import clock

        network, how = config.parse(params)
        steps = how.steps
        if how.patience is not None and not len(split.validation):
            accuracies = [-1.0 if x is None else x for x in curves["val_accuracy"]]
            steps = accuracies.index(max(accuracies)) + 1
        done = 0 if checkpoint is None else len(training.history(checkpoint))
        epochs = f"{steps * how.report_every:g}"
        if 0 < done < steps:
            say(f"continuing after epoch {done * how.report_every:g} of {epochs}")
        work = [how.scale(step // how.reports_per_epoch) ** 2 for step in range(steps)]
        began = time.monotonic()
        try:
            for epoch in training.epochs(
                network, how, self.data, split, seed=seed, resume=checkpoint
            ):
                number = epoch.number
                if not epoch.resumed:
                    save(epoch.save())
                    left = sum(work[number:]) / sum(work[done:number])
                    left *= time.monotonic() - began
                    say(
                        f"epoch {number * how.report_every:g}/{epochs}, training accuracy "
                        f"{epoch.metrics.train_accuracy:.4f}, about {clock(left)} left"
                    )
                if number == steps:
                    break
        except training.Diverged as error:
            raise InputError(
                f"{error}; use a smaller learning_rate in [refit], or another trial"
            ) from error
        except MemoryError as error:
            raise InputError(str(error)) from error
        return network_bundle.build_model(network, how, epoch.result(), self.data, split)
