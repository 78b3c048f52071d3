"""A comparison as text for a terminal, and as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from fmnist_hpo.atomic import write_whole
from fmnist_hpo.errors import InputError
from fmnist_hpo.results.comparison import Comparison, Row
from fmnist_hpo.results.speed import BATCH
from search.text import figure, percent

__all__ = ["lines", "write_csv"]

HEADS = (
    "study", "model", "validation", "test (95 % interval)", "train s", "search s", "parameters",
    "model MB", "MFLOPs", "1 image ms", "images/s",
)  # fmt: skip


def lines(comparison: Comparison) -> Iterator[str]:
    """The table, the tests, what may not be compared and what is missing, line by line."""
    if comparison.one_data_set:
        yield from _aligned([HEADS, *map(_cells, comparison.rows)])
    else:  # each row with its data set, so that nobody reads down a column without seeing it
        cells = [(row.study, row.data, *_cells(row)[1:]) for row in comparison.rows]
        yield from _aligned([(HEADS[0], "data", *HEADS[1:]), *cells])
    yield (
        f"speed of prediction: OMP_NUM_THREADS={comparison.threads}, median; images/s in batches "
        f"of {BATCH:,}; MFLOPs: of one image"
    )
    if any(row.mirrored for row in comparison.rows):
        yield "mirrored: of logits averaged over each image and its mirror image; others are not"
    for pair in comparison.pairs:
        yield (
            f"McNemar, exact: {pair.best} against {pair.other}: {pair.only_best} images right by "
            f"the first alone, {pair.only_other} by the second alone, p = {pair.p_value:.2g}"
        )
    for line in comparison.notes:
        yield f"note: {line}"
    for line in comparison.missing:
        yield f"missing: {line}"


def write_csv(comparison: Comparison, path: Path) -> None:
    """One line per study, in SI units and shares of 1; an empty cell where there is no figure.

    Raises:
        InputError: the file cannot be written; one that was there is as it was.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in comparison.rows)
    try:
        with write_whole(path, public=True) as file:
            file.write(text.getvalue().encode())
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; make room there or name another file"
        ) from error


def _cells(row: Row) -> tuple[str, ...]:
    test = ""
    if row.test_accuracy is not None:
        low, high = 100 * (row.test_low or 0.0), 100 * (row.test_high or 0.0)
        often = f", {row.test_measurements} x" if row.test_measurements > 1 else ""
        test = f"{100 * row.test_accuracy:.2f} % ({low:.2f}-{high:.2f}{often})"
    return (
        row.study,
        row.model,
        _validation(row),
        test,
        _number(row.train_seconds, 1, ".1f"),
        _number(row.search_seconds, 1, ",.0f"),
        _number(row.parameters, 1, ","),
        _number(row.model_bytes, 1e6, ".2f"),
        _number(row.flops, 1e6, ".2f"),
        _number(row.latency_seconds, 1e-3, ".2f"),
        _number(row.images_per_second, 1, ",.0f"),
    )


def _validation(row: Row) -> str:
    if row.validation_accuracy is not None:
        return percent(row.validation_accuracy) + (", mirrored" if row.mirrored else "")
    return "" if row.value is None else f"{figure(row.value)} {row.metric}"


def _number(value: float | None, unit: float, form: str) -> str:
    if value is None:
        return ""
    return format(value if unit == 1 else value / unit, form)


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Names to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
