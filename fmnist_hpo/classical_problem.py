"""Classical models as a problem of the search service."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist_hpo.classical import config as classical_config
from fmnist_hpo.classical.feature_cache import FeatureCache
from fmnist_hpo.errors import InputError
from fmnist_hpo.image_problem import ImageProblem
from search.cross_validation import Fold, FoldContext, cross_validate
from search.errors import ProblemError
from search.problem import Diverged, TrialContext, TrialStopped

if TYPE_CHECKING:
    from fmnist_hpo.bundle.export import Model
    from fmnist_hpo.data import Split

__all__ = ["ClassicalProblem"]

CACHE = Path("runs") / "cache"  # of features, shared by all studies that run in this folder
_PACKAGES = ("scikit-learn", "scikit-image", "scipy", "xgboost")


class ClassicalProblem(ImageProblem):
    """A scikit-learn pipeline. The steps of a trial are folds; without folds there is one step.

    It has no `probe`: the time of a fit on a part of the images does not scale to all of them, as
    the time of an SVM grows between quadratically and cubically.
    """

    keeps_model = False

    def check(self, params: Mapping[str, Any]) -> None:
        """See `search.problem.Problem.check`.

        The data are read only where the number of images bounds a parameter.
        """
        try:
            config = classical_config.parse(params)
            neighbours = config.params.get("n_neighbors", 1)
            bounded = neighbours > 1 or config.pca_components
            fewest = self.fewest_images if bounded else None
            if fewest is not None and neighbours > fewest:
                raise InputError(
                    f"need n_neighbors <= {fewest}, the number of training images of a trial, got "
                    f"{neighbours}; lower it, or use more images"
                )
            if fewest is not None and config.pca_components:
                from fmnist_hpo.classical.pipeline import check_components

                check_components(config, self.data, fewest)
        except InputError as error:
            raise ProblemError(str(error)) from error

    def environment(self) -> Mapping[str, str]:
        """See `search.problem.Problem.environment`."""
        from fmnist_hpo.environment import describe, threads

        return describe(_PACKAGES, device="cpu", threads=threads())

    def run(self, trial: TrialContext, /) -> float:
        """Fit one model per fold; the value is the mean accuracy on the validation parts."""
        return cross_validate(trial, len(self.splits), self._fold)

    def _fold(self, fold: FoldContext) -> Fold:
        from fmnist_hpo.classical.pipeline import NotFinite, fit_and_score

        if fold.should_stop:
            raise TrialStopped
        try:
            scores = fit_and_score(
                classical_config.parse(fold.params),
                self.data,
                self.splits[fold.index],
                seed=fold.seed,
                cache=FeatureCache(CACHE),
            )
        except NotFinite as error:
            raise Diverged(str(error)) from error
        return Fold(
            fold_score=scores.validation,
            fold_train_score=scores.train,
            fit_seconds=scores.fit_seconds,
            score_seconds=scores.score_seconds,
        )

    def is_whole(
        self,
        checkpoint: bytes,  # noqa: ARG002 - a checkpoint holds no model
        curves: Mapping[str, Sequence[float | None]],  # noqa: ARG002
    ) -> bool:
        """See `ImageProblem.is_whole`."""
        return False

    def model(
        self,
        params: Mapping[str, Any],
        split: "Split",
        *,
        seed: int,
        curves: Mapping[str, Sequence[float | None]],  # noqa: ARG002 - its steps are folds
        checkpoint: bytes | None,  # noqa: ARG002 - a checkpoint holds no model
        save: Callable[[bytes], None],  # noqa: ARG002
        say: Callable[[str], None],  # noqa: ARG002 - a fit has no steps
    ) -> "Model":
        """See `ImageProblem.model`. The model is always fitted from the start."""
        from fmnist_hpo.classical import bundle as classical_bundle

        config = classical_config.parse(params)
        return classical_bundle.build_model(
            config, self.data, split, seed=seed, cache=FeatureCache(CACHE)
        )
