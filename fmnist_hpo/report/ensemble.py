"""The section of a report on a study's ensemble, from its bundle."""

from fmnist_hpo.bundle.card import selection_remark
from fmnist_hpo.bundle.ensemble import Selection
from fmnist_hpo.results.comparison import Chosen, Row
from search.report.page import Bullets, Paragraph, Section, Table
from search.text import percent, times

__all__ = ["ensemble_section"]


def ensemble_section(row: Row, chosen: Chosen) -> list[Section]:
    """Members, the choice, accuracy and cost; nothing where the row is not of an ensemble."""
    bundle = chosen.bundle
    if bundle is None or not bundle.provenance.members:
        return []
    found = Selection.of(bundle.config)
    lines = ["Test accuracy: not measured of this ensemble."]
    if chosen.measured is not None:
        test = chosen.measured.evaluation.metrics
        low, high = test.accuracy_interval
        lines = [
            f"Test accuracy: {percent(test.accuracy)} (95 % interval {percent(low)} to "
            f"{percent(high)}, {test.n:,} images); the study's test set was measured "
            f"{times(chosen.measurements)}, this ensemble included."
        ]
        if chosen.measured.remark:
            lines.append(chosen.measured.remark)
    if row.latency_seconds is not None:
        lines.append(f"Latency of one image: {1000 * row.latency_seconds:.2f} ms.")
    return [
        Section(
            title=f"{bundle.provenance.study}: the ensemble",
            parts=[
                Paragraph(text=selection_remark(found)),
                Table(
                    head=("trial", "counts", "validation"),
                    rows=[
                        (str(one.trial), str(one.count), percent(one.accuracy))
                        for one in found.members
                    ],
                ),
                Bullets(lines=lines),
            ],
        )
    ]
