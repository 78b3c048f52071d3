"""Reports of studies whose names, numbers and endings are unusual."""

import re
from datetime import UTC
from xml.etree import ElementTree

import pytest
from made_trials import START, attempt, lines, trial
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from search.report import facts
from search.report.axes import Metric, legible, log_ticks
from search.report.draw_curves import draw_named
from search.report.draw_parameters import draw_importances, draw_parallel, draw_slices
from search.report.draw_search import draw_audit, draw_history, draw_timeline
from search.report.draw_steps import draw_regret
from search.report.page import Page
from search.report.sections import make_sections
from search.report.steps import Regret
from search.report.study_report import StudyReport
from search.report.theme import BLUE, INK, inline_svg, svg
from search.report.trial_table import trial_rows

ACCURACY = Metric(
    name="val_accuracy", direction="maximize", percent=("val_accuracy", "train_accuracy")
)
LARGEST = 2**16  # pixels of a PNG in each direction, by Matplotlib


def breaking(number, value, **more):
    """A complete trial that breaks a constraint."""
    made = trial(number, TrialState.COMPLETE, [value], **more)
    made.set_constraint("size", 1.0)
    return made


def pixels(drawn):
    """Width and height of a figure's PNG."""
    return drawn.get_size_inches() * drawn.dpi


def choosing(number, choices, *, name="kind"):
    """A complete trial that chose one of these."""
    made = trial(number, TrialState.COMPLETE, [0.1 * (number + 1)], params={"rate": 0.1})
    made.distributions[name] = CategoricalDistribution(choices)
    made.params[name] = choices[number]
    return made


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend():
    named = [trial(n, TrialState.COMPLETE, [0.5, 0.6], name=f"{'_' * n}t") for n in range(3)]
    (legend,) = draw_named(named, ACCURACY, "t", step="step").legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{name}, {part}" for name in ("t", "_t", "__t") for part in ("training", "validation")
    ]


def test_a_trial_that_breaks_a_constraint_is_not_shown_as_pruned_or_as_the_best():
    trials = [
        trial(0, TrialState.COMPLETE, [0.5]),
        breaking(1, 0.9),
        trial(2, TrialState.PRUNED, [0.4]),
    ]
    drawn = draw_history(facts.history(trials), ACCURACY, "t").get_axes()[0]
    assert lines(drawn)["breaks a constraint"].get_xydata().tolist() == [[1, 90]]
    assert lines(drawn)["pruned, last value"].get_xydata().tolist() == [[2, 40]]
    slices = draw_slices(trials, ["rate"], ACCURACY, "t").get_axes()[0]
    assert lines(slices)["breaks a constraint"].get_ydata().tolist() == [90]
    assert [row[:3] for row in trial_rows(trials, (), ACCURACY)] == [
        ("0", "50.00 %", "complete"),
        ("1", "90.00 %", "complete, breaks the constraint on size"),
        ("2", "40.00 %", "pruned"),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x01b", "a\\x01b"),
        ("two\nlines", "two\\nlines"),
        ("\ufffe", "?"),
        (0.5, "0.5"),
        ("x" * 100, "x" * 16 + "…" + "x" * 15),
        ("a" * 40 + "b", "a" * 16 + "…" + "a" * 14 + "b"),
    ],
)
def test_any_value_becomes_a_short_text_of_one_line(value, shown):
    assert legible(value) == shown


def test_a_figure_is_well_formed_whatever_its_texts_hold():
    choices = ["a\x01\x1b[31m", "\uffff", "<b>&amp;", "two\nlines"]
    trials = [choosing(n, choices) for n in range(4)]
    for drawn in (
        draw_slices(trials, ["kind"], ACCURACY, "t"),
        draw_parallel(trials, ["kind"], ACCURACY, "t"),
    ):
        ElementTree.fromstring(svg(drawn, "t"))


def test_a_colour_that_is_the_name_of_a_choice_stays_a_name():
    trials = [choosing(n, [BLUE, INK]) for n in range(2)]
    page = inline_svg(svg(draw_slices(trials, ["kind"], ACCURACY, "t"), "t"), "t")
    assert re.findall(r">(#\w+)</text>", page) == [BLUE, INK]
    assert "var(--blue)" in page
    assert BLUE not in page.replace(f">{BLUE}</text>", "")


def test_long_names_that_differ_at_their_end_have_a_bar_each():
    names = [f"{'x' * 190}{n}" for n in range(3)]
    (axes,) = draw_importances(dict.fromkeys(names, 0.3), [], "t").get_axes()
    assert len(axes.patches) == 3
    assert len({round(bar.get_y(), 3) for bar in axes.patches}) == 3
    assert max(len(text.get_text()) for text in axes.get_yticklabels()) <= 32


@pytest.mark.slow
def test_figures_stay_within_what_a_png_can_be():
    spans = facts.spans(
        [attempt(n, "complete", minutes=(n, n + 1), worker=f"w-{n}") for n in range(2000)],
        now=START.replace(tzinfo=UTC),
    )
    timeline = draw_timeline(spans, "t")
    assert max(pixels(timeline)) < LARGEST / 10
    assert timeline.get_axes()[0].get_ylabel() == "2,000 workers"
    audited = [facts.AuditedTrial(number=n, step=1, value=0.1, final=0.2) for n in range(2000)]
    assert max(pixels(draw_audit(audited, 0.5, ACCURACY, "t"))) < LARGEST / 10
    shares = {f"p{n}": 0.001 for n in range(1000)}
    assert max(pixels(draw_importances(shares, [], "t"))) < LARGEST / 10


def test_of_many_choices_a_few_are_labelled():
    choices = [f"choice {n}" for n in range(300)]
    trials = [choosing(n, choices) for n in range(3)]
    (axes,) = draw_slices(trials, ["kind"], ACCURACY, "t").get_axes()
    assert len(axes.get_xticklabels()) == 12
    assert axes.get_xlim() == (-0.5, 299.5)
    (axes,) = draw_parallel(trials, ["kind"], ACCURACY, "t").get_axes()
    assert len(axes.texts) == 12 + 2


def test_a_log_axis_within_two_round_numbers_has_ticks():
    ticks = log_ticks(1.1e-3, 1.9e-3)
    assert len(ticks) > 1
    assert all(1.1e-3 <= tick <= 1.9e-3 for tick in ticks)


@pytest.mark.parametrize(
    ("trials", "caption"),
    [
        ([trial(0, TrialState.PRUNED, [0.5])], "1 of 1 pruned trial."),
        ([trial(0, TrialState.COMPLETE, [0.5])], "The best trial; no trial was pruned."),
        (
            [
                trial(0, TrialState.COMPLETE, [0.5]),
                trial(1, TrialState.COMPLETE, [0.6]),
                *(trial(n, TrialState.PRUNED, [0.1]) for n in range(2, 22)),
            ],
            "The best trial, the next one and 12 of 20 pruned trials.",
        ),
    ],
)
def test_the_caption_of_the_curves_names_those_that_are_there(make_study, trials, caption):
    report = StudyReport(study=make_study(), trials=trials, attempts=[], planned_steps=lambda _: 1)
    (drawing,) = [
        part
        for section in make_sections(report)
        for part in section.parts
        if getattr(part, "name", "") == "toy-curves"
    ]
    assert drawing.caption == caption


def test_a_study_without_an_ended_trial_says_so(make_study):
    report = StudyReport(study=make_study(), trials=[], attempts=[], planned_steps=lambda _: 1)
    assert "How they ended: none has ended yet." in report.summary()


@pytest.mark.slow
def test_values_near_the_largest_float_are_drawn(make_study):
    values = [1.7e308, -1.7e308, 1.0, 8e307, -1.0, 0.5, 1.7e308, -1.7e308, 2.0]
    trials = [
        trial(n, TrialState.COMPLETE if n % 3 else TrialState.PRUNED, [value, -value, value])
        for n, value in enumerate(values)
    ]
    report = StudyReport(study=make_study(), trials=trials, attempts=[], planned_steps=lambda _: 3)
    files = Page(title="t", subtitle="t", sections=make_sections(report)).files()
    assert {name for name in files if name.endswith(".svg")} == {
        f"figures/toy-{name}.svg"
        for name in ("agreement", "curves", "history", "parallel", "slices")
    }
    one = facts.AuditedTrial(number=0, step=1, value=1.7e308, final=-1.7e308)
    svg(draw_audit([one], 1.7e308, ACCURACY, "t"), "t")
    regret = Regret(seconds=[1.0, 2.0], values=[float("inf"), 0.0])
    svg(draw_regret({False: regret}, ACCURACY, "t"), "t")
