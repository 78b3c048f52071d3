"""Lines that several commands print."""

from fmnist_hpo.metrics import Metrics

__all__ = ["say", "with_interval"]


def say(line: str) -> None:
    """Print a line at once: training takes minutes, also where the output is a pipe."""
    print(line, flush=True)


def with_interval(metrics: Metrics) -> str:
    """An accuracy in percent with its interval."""
    low, high = metrics.accuracy_interval
    return (
        f"{100 * metrics.accuracy:.2f} % accuracy, 95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}"
    )
