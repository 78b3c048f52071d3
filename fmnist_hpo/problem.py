"""Networks as a problem of the search service: `FashionProblem`."""

import time
from collections.abc import Callable, Mapping
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
    from fmnist_hpo.networks.training import EpochMetrics, TrainResult

__all__ = ["FashionProblem"]


class FashionProblem(ImageProblem):
    """An ANN or a CNN. Its steps are epochs; under cross-validation they are folds."""

    def check(self, params: Mapping[str, Any]) -> None:
        """See `search.problem.Problem.check`."""
        try:
            config.parse(params)
        except InputError as error:
            raise ProblemError(str(error)) from error

    def environment(self) -> Mapping[str, str]:
        """See `search.problem.Problem.environment`."""
        from fmnist_hpo.environment import describe_torch

        return describe_torch()

    def outline(self, params: Mapping[str, Any]) -> Outline:
        """See `search.problem.Probing.outline`; the size is in FLOPs of forward passes."""
        from fmnist_hpo.networks import probe

        network, how = config.parse(params)
        data, images = self.data, how.epochs * sum(len(split.train) for split in self.splits)
        return Outline(
            size=float(probe.flops(network, data.image_size, len(data.classes)) * images),
            remarks=probe.remarks(network, data.image_size),
        )

    def probe(self, params: Mapping[str, Any]) -> Cost:
        """See `search.problem.Probing.probe`."""
        from fmnist_hpo.networks import probe, training

        network, how = config.parse(params)
        with training.memory_errors():
            cost = probe.measure_epoch(network, how, self.data, self.splits[0])
        if self.folds is None:
            steps, step_seconds, start_seconds = how.epochs, cost.epoch_seconds, cost.start_seconds
        else:
            fit_seconds = cost.start_seconds + how.epochs * cost.epoch_seconds
            steps, step_seconds, start_seconds = self.folds, fit_seconds, 0.0
        return Cost(
            steps=steps, step_seconds=step_seconds, start_seconds=start_seconds, share=cost.share
        )

    def run(self, run: TrialContext) -> float:
        """Train one network, or one for each fold.

        The value is the last epoch's validation accuracy, or its mean over the folds.
        """
        if self.folds is not None:
            return cross_validate(run, self.folds, self._fold)

        from fmnist_hpo.networks import training

        def report(epoch: int, metrics: training.EpochMetrics) -> None:
            curves = {k: v for k, v in vars(metrics).items() if v is not None}
            run.report(epoch, curves["val_accuracy"], **curves)

        (split,) = self.splits
        return _train(self, run, split, report).val_accuracy

    def _fold(self, run: FoldContext) -> Fold:
        """One fold; the score on its training part is the running one of the last epoch."""
        result = _train(self, run, self.splits[run.index], lambda epoch, metrics: None)
        return Fold(
            fold_score=result.val_accuracy,
            fold_train_score=result.history[-1].train_accuracy,
            fit_seconds=sum(epoch.seconds for epoch in result.history),
            score_seconds=0.0,  # a network is validated after each epoch, within `fit_seconds`
        )

    def model(
        self,
        params: Mapping[str, Any],
        split: "Split",
        *,
        seed: int,
        checkpoint: bytes | None,
        save: Callable[[bytes], None],
        say: Callable[[str], None],
    ) -> "Model":
        """See `ImageProblem.model`."""
        from fmnist_hpo.networks import bundle as network_bundle
        from fmnist_hpo.networks import training
        from search.text import clock

        network_config, training_config = config.parse(params)
        epochs = training_config.epochs
        done = 0 if checkpoint is None else len(training.history(checkpoint))
        if checkpoint is not None and done == epochs:
            weights, history = training.weights(checkpoint), training.history(checkpoint)
        else:
            if done:
                say(f"going on after epoch {done} of {epochs}")
            began = time.monotonic()

            def on_epoch(epoch: int, metrics: training.EpochMetrics, write: training.Save) -> None:
                save(write())
                left = (time.monotonic() - began) / (epoch - done) * (epochs - epoch)
                say(
                    f"epoch {epoch}/{epochs}, training accuracy {metrics.train_accuracy:.4f}, "
                    f"about {clock(left)} left"
                )

            result = training.train(
                network_config,
                training_config,
                self.data,
                split,
                seed=seed,
                resume=checkpoint,
                on_epoch=on_epoch,
            )
            weights, history = dict(result.weights), result.history
        return network_bundle.pack(
            network_config, training_config, weights, history, self.data, split
        )


def _train(
    problem: FashionProblem,
    run: TrialContext | FoldContext,
    split: "Split",
    report: "Callable[[int, EpochMetrics], None]",
) -> "TrainResult":
    """Train on one split, from the run's checkpoint where there is one, and save after epochs."""
    from fmnist_hpo.networks import training

    network, how = config.parse(run.params)
    resume = run.load_checkpoint()

    def on_epoch(epoch: int, metrics: training.EpochMetrics, save: training.Save) -> None:
        run.save_checkpoint(save())
        report(epoch, metrics)

    if resume is not None:
        for epoch, metrics in enumerate(training.history(resume), start=1):
            report(epoch, metrics)
    try:
        return training.train(
            network,
            how,
            problem.data,
            split,
            seed=run.seed,
            resume=resume,
            should_stop=lambda: run.should_stop,
            on_epoch=on_epoch,
        )
    except training.Diverged as error:
        raise Diverged(str(error)) from error
    except training.Interrupted as stopped:
        run.save_checkpoint(stopped.checkpoint)
        raise TrialStopped from stopped
