"""Lines that several commands print."""

from fmnist_hpo.bundle import Bundle
from fmnist_hpo.metrics import Metrics

__all__ = ["readout", "say", "with_interval"]


def say(line: str) -> None:
    """Print a line at once: training takes minutes, also where the output is a pipe."""
    print(line, flush=True)


def readout(bundle: Bundle) -> str:
    """How a bundle's logits become an answer, and what the validation images said, on one line."""
    rule = bundle.config.readout
    found = rule.evidence
    words = [f"temperature {rule.temperature:g}"]
    if found is None and bundle.config.has_probabilities:
        words[0] += " (not calibrated, for want of validation images)"
    if found is not None and found.calibration_error is not None:
        before, after = found.raw_calibration_error or 0.0, found.calibration_error
        words[0] += f" (calibration error {100 * before:.2f} % before, {100 * after:.2f} % after)"
    if found is not None and found.gained is not None:
        words.append(
            f"mirror image {'taken' if rule.flip else 'not taken'} (of {found.images:,} validation "
            f"images {found.gained:,} are right only with it, {found.lost:,} only without)"
        )
    elif rule.flip:
        words.append("mirror image taken")
    return ", ".join(words)


def with_interval(metrics: Metrics) -> str:
    """An accuracy in percent with its interval."""
    low, high = metrics.accuracy_interval
    return (
        f"{100 * metrics.accuracy:.2f} % accuracy, 95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}"
    )
