"""A report's data against figures worked out by hand, its drawings by the data in them."""

import dataclasses
import re
import threading
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np
import pytest
from ledger_clock import HandClock
from made_trials import ATTEMPTS, START, TRIALS, attempt, lines, points, trial
from optuna.trial import TrialState

from search.ledger import Ledger
from search.report import facts
from search.report.axes import Metric, log_ticks
from search.report.draw_curves import draw_curves, draw_named
from search.report.draw_parameters import draw_importances, draw_parallel, draw_slices
from search.report.draw_search import draw_audit, draw_history, draw_timeline
from search.report.page import Bullets, Drawing, Page, Paragraph, Section, Table
from search.report.sections import make_sections
from search.report.study_report import StudyReport
from search.report.theme import BLUE, GREY, INK, figure, inline_svg, svg, svg_on_white, themed
from search.report.trial_table import trial_rows
from search.study.rows import records, worked_seconds
from search.worker.worker import work

ACCURACY = Metric(
    name="val_accuracy", direction="maximize", percent=("val_accuracy", "train_accuracy")
)


def utc(minutes):
    """So many minutes after `START`."""
    return START.replace(tzinfo=UTC) + timedelta(minutes=minutes)


def axes_of(drawn):
    return drawn.get_axes()


def test_the_history_figure_holds_every_trial():
    drawn = draw_history(facts.history(TRIALS), ACCURACY, "t")
    left, right = axes_of(drawn)
    assert lines(left)["complete"].get_xydata().tolist() == [[0, 80], [3, 90], [6, 95]]
    assert lines(left)["control (random)"].get_xydata().tolist() == [[5, 75]]
    assert lines(left)["pruned, last value"].get_ydata().tolist() == [40, 10]
    assert lines(right)["best so far"].get_xdata() == pytest.approx([4, 6, 11])
    assert lines(right)["best so far"].get_ydata().tolist() == [80, 90, 95]


def test_the_best_so_far_stays_so_while_trials_are_pruned():
    first, *later = points([0.8, 0.7, 0.6], control=False)
    history = [first, *(dataclasses.replace(one, complete=False) for one in later)]
    left, right = axes_of(draw_history(history, ACCURACY, "t"))
    assert lines(left)["best so far"].get_xydata().tolist() == [[0, 80], [2, 80]]
    assert lines(right)["best so far"].get_xdata()[-1] == 120


def test_the_curves_figure_draws_training_and_validation_of_the_best():
    drawn = draw_curves([TRIALS[3], TRIALS[0]], [TRIALS[1]], ACCURACY, "t", step="fold")
    (axes,) = axes_of(drawn)
    found = lines(axes)
    assert found["trial 3, validation"].get_ydata() == pytest.approx([50, 60, 70, 90])
    assert found["trial 3, training"].get_ydata() == pytest.approx([55, 65, 75, 95])
    assert found["next best"].get_ydata() == pytest.approx([50, 60, 70, 80])
    assert found["pruned"].get_ydata() == pytest.approx([40])
    assert axes.get_xlabel() == "fold"


def test_named_trials_are_drawn_side_by_side():
    named = [trial(n, TrialState.COMPLETE, [0.5, 0.6 + n / 10], name=f"t{n}") for n in range(4)]
    (axes,) = axes_of(draw_named(named, ACCURACY, "t", step="step"))
    assert len(axes.lines) == 8
    assert lines(axes)["t3, validation"].get_ydata() == pytest.approx([50, 90])
    nine = [trial(0, TrialState.COMPLETE, [0.5], name="t")] * 9
    assert draw_named(nine, ACCURACY, "t", step="step") is None


def test_slices_and_parallel_coordinates_place_every_trial():
    ended = [one for one in facts.last_attempts(TRIALS) if one.value is not None]
    rate, kind = axes_of(draw_slices(ended, ["rate", "kind"], ACCURACY, "t"))
    assert rate.get_xscale() == "log"
    assert [label.get_text() for label in rate.get_xticklabels()] == ["0.1", "0.2", "0.5"]
    assert lines(rate)["complete"].get_xdata() == pytest.approx([0.1, 0.4, 0.7])
    assert lines(kind)["complete"].get_xdata().tolist() == [0, 1, 0]
    assert [label.get_text() for label in kind.get_xticklabels()] == ["a", "b"]
    complete = [one for one in ended if one.state is TrialState.COMPLETE]
    (axes,) = axes_of(draw_parallel(complete, ["rate", "kind"], ACCURACY, "t"))
    best = next(line for line in axes.lines if line.get_linewidth() == 2.0)
    assert best.get_ydata().tolist() == [pytest.approx(np.log(0.7 / 0.01) / np.log(1000)), 0, 1]
    gap = trial(9, TrialState.COMPLETE, [0.1], params={"kind": "b"})
    (axes,) = axes_of(draw_parallel([*complete, gap], ["kind", "rate"], ACCURACY, "t"))
    assert sum(np.isnan(line.get_ydata()).any() for line in axes.lines) == 1
    (bridge,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert bridge.get_xdata().tolist() == [0, 2]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1e-5, 1.0, [1e-5, 1e-3, 1e-1]),
        (1e-4, 1e-2, [1e-4, 1e-3, 1e-2]),
        (4e-4, 1.2e-2, [1e-3, 3e-3, 1e-2]),
        (16, 70, [20, 30, 50, 70]),
    ],
)
def test_ticks_of_a_log_axis_are_few_and_round(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_the_timeline_marks_losses_and_resumes():
    running = attempt(7, None, minutes=(11, 0), worker="v")
    spans = facts.spans([running, *ATTEMPTS], now=utc(20))
    assert [span.number for span in spans] == list(range(8))
    assert [span.ending for span in spans].count("lost") == 1
    (axes,) = axes_of(draw_timeline(spans, "t"))
    assert lines(axes)["its worker died"].get_xydata().tolist() == [[3, 0]]
    assert lines(axes)["goes on with an earlier attempt"].get_xydata().tolist() == [[3, 0]]
    bars = {(round(bar.get_x(), 6), round(bar.get_width(), 6)) for bar in axes.patches}
    assert bars == {(0, 4), (0, 1), (1, 2), (3, 3), (6, 1), (7, 2), (9, 2), (11, 9)}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["w", "v"]


def test_a_night_in_which_nobody_worked_does_not_squeeze_the_timeline():
    later = [attempt(7, "complete", minutes=(600, 604))]
    spans = facts.spans([*ATTEMPTS, *later], now=utc(0))
    (axes,) = axes_of(draw_timeline(spans, "t"))
    last = max(axes.containers[0], key=lambda bar: bar.get_x())
    assert last.get_width() == pytest.approx(4)
    assert last.get_x() == pytest.approx(11 + 20 / 60)
    assert [text.get_text() for text in axes.texts] == ["nobody at work for 9:49:00"]


def test_a_trial_that_was_released_and_resumed_has_two_bars_and_one_stop(make_study):
    clock = HandClock()
    study = make_study(trials=1)
    study.ledger = ledger = Ledger.open(study.storage, study.name, clock=clock)
    first = ledger.claim("one")
    clock.seconds += 60
    ledger.release(first)
    clock.seconds += 600
    second = ledger.claim("two")
    clock.seconds += 30
    ledger.end(second, TrialState.COMPLETE, 0.5)

    report = StudyReport.of(study, lambda params: None)
    spans = facts.spans(report.attempts, now=datetime.now(UTC))
    assert [(span.number, span.worker, span.ending, span.resumes) for span in spans] == [
        (0, "one", "stopped", False),
        (0, "two", "complete", True),
    ]
    assert [(span.end - span.start).total_seconds() for span in spans] == [60, 30]
    (axes,) = axes_of(draw_timeline(spans, "t"))
    bars = [bar for container in axes.containers for bar in container]
    assert sorted(round(60 * bar.get_width()) for bar in bars) == [30, 60]
    found = facts.endings(report.trials, report.attempts, report.waiting)
    assert (found.by_word, found.lost_attempts, found.stopped_attempts) == ({"complete": 1}, 0, 1)

    (row,) = records(study.trials, study.params, worked_seconds(ledger.attempts()))
    assert row["seconds"] == 90
    assert facts.training_seconds(study.trials[0], report.worked) == 90


def test_a_parameter_of_few_trials_has_no_importance():
    drawn = draw_importances({"rate": 0.7, "size": 0.3}, ["layers"], "t")
    (axes,) = axes_of(drawn)
    assert {text.get_text() for text in axes.texts} == {"70 %", "30 %", "too few trials"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["layers", "size", "rate"]


def test_the_table_of_trials_has_the_best_on_top():
    rows = trial_rows(TRIALS, (), ACCURACY)
    assert [row[:3] for row in rows] == [
        ("6", "95.00 %", "complete"),
        ("3", "90.00 %", "complete"),
        ("0", "80.00 %", "complete"),
        ("5", "75.00 %", "complete (control)"),
        ("1", "40.00 %", "pruned"),
        ("4", "10.00 %", "diverged"),
    ]
    assert rows[0][3:] == ("4", "0:40", "rate=0.7 kind=a")


def test_the_audit_figure_goes_from_the_cut_to_the_end():
    (axes,) = axes_of(draw_audit(facts.audited(TRIALS), 0.9, ACCURACY, "t"))
    assert lines(axes)["when it would have been pruned"].get_xydata().tolist() == [[50, 0]]
    assert lines(axes)["at its end"].get_xydata().tolist() == [[95, 0]]


def test_far_outliers_do_not_flatten_the_rest():
    values = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.1]
    history = points(values, control=False)
    left, _ = axes_of(draw_history(history, ACCURACY, "t"))
    low, high = left.get_ylim()
    assert 85 < low < 90 < 97 < high < 100
    assert "1 worse, outside" in {text.get_text() for text in left.texts}


def test_an_inlined_figure_follows_the_colours_of_the_page():
    @themed
    def make():
        drawn = figure(3, 2, "a <title>")
        drawn.subplots().plot([1, 2], color=BLUE)
        return drawn

    drawn = make()
    text = inline_svg(svg(drawn, "one"), "what it shows")
    root = ElementTree.fromstring(text.replace("xlink:href", "href"))
    assert root.attrib["aria-label"] == "what it shows"
    assert INK not in text
    assert BLUE not in text
    assert GREY not in text
    assert "currentColor" in text
    assert "var(--blue)" in text
    assert "a &lt;title&gt;" in text
    other = inline_svg(svg(drawn, "two"), "x")
    ids = [set(re.findall(r' id="([^"]+)"', drawing)) for drawing in (text, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    file = ElementTree.fromstring(svg_on_white(svg(drawn, "one")))
    assert file[0].attrib == {"width": "100%", "height": "100%", "fill": "white"}


def test_a_page_escapes_what_it_is_given():
    drawn = figure(3, 2, "t")
    drawn.subplots()
    page = Page(
        title="<b>",
        subtitle="&",
        sections=[
            Section(title="<i>", parts=[
                Paragraph(text="<script>alert(1)</script>"),
                Bullets(lines=["a < b"]),
                Table(head=("name", "<n>"), rows=[("<x>", "12"), ("y", "3")]),
                Drawing(name="f", figure=drawn, caption='"quoted" <caption>'),
            ]),
            Section(title="empty", parts=[]),
        ],
    )  # fmt: skip
    text = page.to_html()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert '<td>&lt;x&gt;</td><td class="n">12</td>' in text
    assert "empty" not in text
    files = page.files()
    assert set(files) == {"report.html", "figures/f.png", "figures/f.svg"}
    assert files["figures/f.png"].startswith(b"\x89PNG")


def test_the_report_of_a_study_says_what_happened(make_study):
    study = make_study(
        "toy:Improving",
        space="x = { float = [0.0, 1.0] }\nn = { int = [1, 4] }",
        trials=20,
        extra='[pruner]\nname = "median"\nn_startup_trials = 2\n[control]\ntrials = 5\n'
        "[audit]\nfraction = 0.5",
    )
    work(study, name="w", stop=threading.Event())
    report = StudyReport.of(study, lambda params: 5)
    lines = report.summary()
    assert len(lines) <= 10
    assert lines[0].startswith("Searched: 2 parameters, 20 of 20 trials ended, proposed by tpe")
    assert f"trial {study.best.number} with value {study.best.value:.4g}" in lines[1]
    pruned = sum(t.state is TrialState.PRUNED for t in study.trials)
    assert f"{pruned} pruned" in lines[2]
    audited = sum("audit" in t.user_attrs for t in study.trials)
    assert audited > 0
    assert f"of {audited} pruned trials that ran on for the audit, 0 ended better" in lines[5]
    assert "random search (5 trials" in lines[4]
    names = {
        part.name.removeprefix("toy-")
        for section in make_sections(report)
        for part in section.parts
        if isinstance(part, Drawing)
    }
    assert names == {
        "history", "curves", "audit", "timeline", "regret", "agreement", "importances", "slices",
        "parallel",
    }  # fmt: skip


def test_the_report_of_named_configurations_speaks_of_no_search(make_study):
    study = make_study(
        trials=1,
        space="",
        extra='[[trials]]\nname = "one"\nparams = { x = 0.5 }',
    )
    work(study, name="w", stop=threading.Event())
    report = StudyReport.of(study, lambda params: 5)
    searched, best, _, compute, *_ = report.summary()
    assert searched == "Searched: 1 named configuration, 1 of 1 trials ended, not pruned."
    assert best.startswith("Best: trial 0 (one) with value ")
    assert compute.endswith(" of wall-clock time.")
    assert "toy: parameters" not in [section.title for section in make_sections(report)]
    assert not [line for line in report.summary() if line.startswith(("Control", "Pruner"))]


def test_the_report_of_a_study_without_trials(make_study):
    study = make_study(extra='[pruner]\nname = "median"')
    report = StudyReport.of(study, lambda params: None)
    text = " ".join(report.summary())
    assert "no trial is complete yet" in text
    assert "Control: the study has none" in text
    assert "Pruner: not audited" in text
    drawings = [p for s in make_sections(report) for p in s.parts if isinstance(p, Drawing)]
    assert drawings == []
