"""The figures of the diagnosis: names, axes and values are read back."""

import json
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from shifamind_core.analysis.alignment import align
from shifamind_core.analysis.flip_bound import flip_bound
from shifamind_core.analysis.gap_split import split_gap
from shifamind_core.diagnosis.findings import EvidencePlot, Series
from shifamind_core.diagnosis.proof import prove, prove_tuned
from shifamind_core.figures.findings import PARTS, evidence_figure, gap_split_figure
from shifamind_core.figures.proof import proof_figure
from shifamind_core.figures.replay import before_after_figure
from tests.support.dashboard import small_run

BUDGET = 300_000
ERRORS = {"fp32": 1e-6, "tf32": 1e-3, "fp16": 1.2e-3, "bf16": 0.9}
LINK = '<a href="http://host.example">x</a>'


def trace(figure: go.Figure, name: str) -> go.Scatter | go.Bar:
    (found,) = (one for one in figure.data if one.name == name)
    return found


def annotations(figure: go.Figure) -> list[str]:
    return [one.text for one in figure.layout.annotations]


def vertical_lines(figure: go.Figure) -> list[float]:
    return sorted(one.x0 for one in figure.layout.shapes if one.x0 == one.x1)


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_the_band_is_the_bound_and_every_error_has_its_line(metric) -> None:
    proof = prove(small_run(), {"macro_f1": 0.6, "micro_f1": 0.5}, ERRORS, reported=False)
    figure = proof_figure(proof, metric)
    assert figure.layout.xaxis.type == "log"
    for name, side in (("lowest F1", 0), ("highest F1", 1)):
        drawn = trace(figure, name)
        np.testing.assert_array_equal(drawn.x, proof.curve.epsilons.astype(np.float32))
        np.testing.assert_allclose(drawn.y, getattr(proof.curve, metric)[:, side], rtol=1e-6)
    (need,) = (one for one in proof.needs if one.metric == metric)
    assert vertical_lines(figure) == sorted([*ERRORS.values(), need.epsilon])
    assert {*ERRORS, f"<b>needed: {need.epsilon:.2g}</b>", f"there {need.there:.4f}"} <= {
        *annotations(figure)
    }


def test_labels_of_near_errors_stand_in_rows_of_their_own() -> None:
    figure = proof_figure(prove(small_run(), {}, ERRORS))
    rows = {one.text: one.yshift for one in figure.layout.annotations}
    assert rows["tf32"] != rows["fp16"] and rows["fp32"] == rows["tf32"]


def test_a_target_that_nothing_reaches_has_no_line() -> None:
    proof = prove(small_run(), {"macro_f1": 0.6}, {})
    assert len(vertical_lines(proof_figure(proof))) == 1
    need = replace(proof.needs[0], epsilon=None)
    assert vertical_lines(proof_figure(replace(proof, needs=(need,)))) == []


def test_sampled_ranges_are_named_so() -> None:
    run = small_run()
    drawn = flip_bound(run).sampled_range(np.array([-0.9, 0.0, 0.9]))
    figure = proof_figure(prove(run, {"macro_f1": 0.6}, ERRORS), "macro_f1", {"bf16": drawn})
    point = trace(figure, "bf16, sampled")
    assert point.y[0] == np.float32(drawn.macro_f1.mean)
    np.testing.assert_allclose(point.y[0] + point.error_y.array[0], drawn.macro_f1.interval[1], rtol=1e-5)


def test_the_tuned_protocol_is_drawn_alike_and_contains_its_score() -> None:
    proof = prove_tuned(small_run("val"), small_run(), {"macro_f1": 0.5}, ERRORS)
    figure = proof_figure(proof, "macro_f1")
    low, high = trace(figure, "lowest F1").y, trace(figure, "highest F1").y
    assert proof.threshold is None
    assert (low <= proof.needs[0].here + 1e-6).all() and (high >= proof.needs[0].here - 1e-6).all()
    assert "tuned macro F1" in proof.sentence


@pytest.mark.parametrize("kind", ["scatter", "line", "bar"])
def test_evidence_is_drawn_as_it_asks_without_links(kind) -> None:
    series = (Series(LINK, np.arange(3), np.array([1.0, 2.0, 3.0])), Series("b", np.arange(3), np.ones(3)))
    figure = evidence_figure(EvidencePlot(kind, "title", LINK, "relative difference", series, log_y=True))
    assert len(figure.data) == 2
    np.testing.assert_array_equal(figure.data[0].y, [1, 2, 3])
    assert figure.layout.yaxis.title.text == "relative difference" and figure.layout.yaxis.type == "log"
    assert "<a " not in json.dumps(figure.to_plotly_json(), default=str)


def test_bars_may_be_named() -> None:
    plot = EvidencePlot("bar", "t", "x", "y", (Series("a", np.array([LINK, "I10"]), np.ones(2)),))
    assert list(evidence_figure(plot).data[0].x) == ['a href="http://host.example"x/a', "I10"]


def test_the_parts_of_a_gap_are_bars_with_their_intervals() -> None:
    split = split_gap(align(small_run(), small_run(noise=1.5, seed=7)), draws=50)
    figure = gap_split_figure(split)
    bars = trace(figure, "macro F1")
    assert list(bars.y) == [PARTS[name] for name in ("gap", "run_calibration", "code_calibration", "ranking")]
    assert bars.x[0] == np.float32(split.macro_f1.gap.value)
    np.testing.assert_allclose(
        np.float64(bars.x[-1]) + bars.error_x.array[-1], split.macro_f1.ranking.high, rtol=1e-5
    )


def test_before_and_after_keep_every_logit_and_equal_ones_apart() -> None:
    compared = {
        "exponents": [-2.0, -1.0, 0.0, 1.0],
        "before": [0, 3, 7],
        "after": [2, 0, 0],
        "zeros": {"before": 0, "after": 8},
    }
    figure = before_after_figure(compared)
    counted = {one.name: int(np.sum(one.y)) for one in figure.data}
    assert counted == {"before": 10, "before, exactly equal": 0, "after": 2, "after, exactly equal": 8}
    assert list(figure.layout.xaxis.ticktext) == ["equal", "1e-2", "1e-1", "1e0", "1e1"]


def test_figures_of_a_full_size_run_travel_as_little() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((17_266, 50)) < 0.1).astype(np.uint8)
    logits = (labels * 2 + random.normal(-3, 2, labels.shape)).astype(np.float32)
    run = small_run(logits=logits, labels=labels, document_ids=None, codes=None)
    assert len(proof_figure(prove(run, {"macro_f1": 0.2}, ERRORS)).to_json()) < BUDGET
