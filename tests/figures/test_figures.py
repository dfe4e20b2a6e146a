"""Figures are pure: names, axes and values are read back; a full-size case stays small."""

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shifamind_core.figures.binning import density, histogram, symmetric_log_histogram
from shifamind_core.figures.codes import codes_figure, support_figure
from shifamind_core.figures.differences import (
    density_figure,
    difference_histogram,
    histogram_note,
    linear_note,
)
from shifamind_core.figures.style import PALETTE, colour, plain
from shifamind_core.figures.thresholds import ThresholdLine, thresholds_figure

BUDGET = 300_000
NOTES, CODES = 17_266, 50
LINK = '<a href="http://host.example">run</a>'


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Candidate and reference of the case's full size, TF32-like apart, a tenth of the logits equal."""
    random = np.random.default_rng(7)
    reference = random.normal(-3, 2.8, (NOTES, CODES)).astype(np.float32)
    candidate = reference + random.normal(0, 3e-4, reference.shape).astype(np.float32)
    candidate[::10] = reference[::10]
    return candidate, reference


def lines(runs: int, thresholds: int = 80) -> list[ThresholdLine]:
    """Curves of the case's shape for so many runs, on both splits."""
    grid = np.arange(0.1, 0.9, 0.01)[:thresholds]
    return [
        ThresholdLine(
            f"run {run}",
            split,
            grid,
            0.5 - (grid - 0.25) ** 2,
            0.4 - (grid - 0.3) ** 2,
            tuned=0.25,
            plateau=(0.23, 0.27) if split == "validation" else None,
        )
        for run in range(runs)
        for split in ("validation", "test")
    ]


def size(figure: go.Figure) -> int:
    """Bytes that travel to the browser."""
    return len(figure.to_json().encode())


def texts(figure: go.Figure) -> str:
    """The figure as JSON, to look for a piece of markup anywhere."""
    return json.dumps(figure.to_plotly_json(), default=str)


# Binning


@given(
    hnp.arrays(
        np.float64,
        st.integers(0, 200),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
    )
)
def test_every_value_is_counted_once(values: np.ndarray) -> None:
    h = symmetric_log_histogram(values)
    counted = h.negative.sum() + h.positive.sum() + h.zeros + h.nearer_zero + h.farther + h.non_finite
    assert counted == values.size
    assert h.zeros == (values == 0).sum()
    assert h.non_finite == (~np.isfinite(values)).sum()


@given(hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6)))
def test_swapping_candidate_and_reference_mirrors_the_histogram(values: np.ndarray) -> None:
    one, other = symmetric_log_histogram(values), symmetric_log_histogram(-values)
    np.testing.assert_array_equal(one.negative, other.positive)
    np.testing.assert_array_equal(one.exponents, other.exponents)


@given(st.integers(-15, 3), st.sampled_from([-1.0, 1.0]), st.floats(1.001, 9.99))
def test_a_value_falls_between_the_edges_of_its_bin(exponent: int, sign: float, mantissa: float) -> None:
    value = sign * mantissa * 10.0**exponent
    h = symmetric_log_histogram(np.array([value]))
    (at,) = np.flatnonzero(h.positive if sign > 0 else h.negative)
    low, high = 10 ** h.exponents[at], 10 ** h.exponents[at + 1]
    assert low * (1 - 1e-9) <= abs(value) <= high * (1 + 1e-9)


def test_equal_runs_give_only_zeros() -> None:
    h = symmetric_log_histogram(np.zeros((4, 3), np.float32))
    assert (h.zeros, h.positive.sum(), h.negative.sum(), h.nearer_zero, h.farther) == (12, 0, 0, 0, 0)
    assert difference_histogram(h).data[2].y.tolist() == [12]


def test_one_tiny_value_does_not_stretch_the_axis_but_is_told() -> None:
    values = np.full(100_000, 1e-3)
    values[0] = 1e-16
    h = symmetric_log_histogram(values, outside=1e-4)
    assert h.exponents[0] == -3
    assert h.nearer_zero == 1
    assert histogram_note(h) == "Outside the figure: 1 are smaller than 1e-03 but not zero."


def test_nothing_outside_needs_no_note() -> None:
    assert histogram_note(symmetric_log_histogram(np.array([0.5, 0.25]))) == ""


@given(
    hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-50, 50, width=32)),
    st.integers(1, 40),
)
def test_density_counts_every_pair_and_transposes(values: np.ndarray, cells: int) -> None:
    other = values[::-1]
    one = density(values, other, cells)
    assert one.counts.sum() == values.size
    np.testing.assert_array_equal(one.counts, density(other, values, cells).counts.T)


def test_density_agrees_with_histogram2d() -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(2, 5_000))
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    expected, _, _ = np.histogram2d(y, x, bins=40, range=[(low, high)] * 2)
    # a value on an edge may fall to either side by rounding
    assert np.abs(density(x, y, 40).counts - expected).sum() <= 2


def test_pairs_with_nan_are_left_out_and_counted() -> None:
    d = density(np.array([0.0, np.nan, 1.0]), np.array([0.0, 1.0, np.inf]), cells=2)
    assert d.counts.sum() == 1
    assert d.non_finite == 2


def test_all_pairs_broken_still_gives_an_empty_map() -> None:
    figure = density_figure(density(np.array([np.nan]), np.array([1.0])))
    assert figure.data[0].z.max() == 0


# Differences


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6)))
def test_the_linear_histogram_counts_every_value_once_and_mirrors(values: np.ndarray) -> None:
    found, mirrored = histogram(values), histogram(-values)
    assert found.counts.sum() + found.below + found.above + found.non_finite == len(values)
    assert found.edges[0] == -found.edges[-1]
    expected, _ = np.histogram(values, found.edges)
    assert np.abs(found.counts - expected).sum() <= 2 * np.isin(values, found.edges).sum()
    assert (found.below, found.above) == (mirrored.above, mirrored.below)


def test_values_that_are_no_numbers_are_told_beside_the_histogram() -> None:
    found = histogram(np.array([0.0, np.nan, np.inf, 1.0]), outside=0.0)
    assert found.non_finite == 2 and "2 are NaN or infinite" in linear_note(found)
    assert linear_note(histogram(np.array([0.0, 1.0]), outside=0.0)) == ""
    assert histogram(np.zeros(3)).counts.max() == 3


def test_histogram_reads_as_signed_log_differences(pair: tuple[np.ndarray, np.ndarray]) -> None:
    candidate, reference = pair
    difference = candidate - reference
    h = symmetric_log_histogram(difference)
    figure = difference_histogram(h, {50: 2e-4, 90: 5e-4, 99: 8e-4})
    lower, higher, equal = figure.data
    assert figure.layout.xaxis.title.text == "Logit difference (symmetric log scale)"
    assert figure.layout.yaxis.type == "log"
    assert lower.y.sum() + higher.y.sum() + h.nearer_zero == (difference != 0).sum()
    np.testing.assert_allclose(lower.y.sum(), (difference < 0).sum(), rtol=1e-3)
    assert equal.y.tolist() == [int((difference == 0).sum())]
    assert (lower.x < 0).all() and (higher.x > 0).all()
    (marks,) = figure.layout.annotations
    assert marks.text == "|difference|: p50 0.0002, p90 0.0005, p99 0.0008"
    assert len(figure.layout.shapes) == 6
    assert size(figure) < 40_000


def test_percentiles_of_equal_runs_are_not_marked() -> None:
    h = symmetric_log_histogram(np.zeros(10))
    assert not difference_histogram(h, {50: 0.0, 99: float("nan")}).layout.shapes


def test_axis_ticks_are_decades_with_zero_in_the_middle() -> None:
    figure = difference_histogram(symmetric_log_histogram(np.array([-0.5, 2e-3, 0.0])))
    axis = figure.layout.xaxis
    assert list(axis.ticktext) == ["−1e0", "−1e-1", "−1e-2", "0", "1e-2", "1e-1", "1e0"]
    np.testing.assert_allclose(axis.tickvals, -np.asarray(axis.tickvals)[::-1])


def test_density_map_stays_small_and_keeps_the_counts(pair: tuple[np.ndarray, np.ndarray]) -> None:
    candidate, reference = pair
    figure = density_figure(density(reference, candidate), threshold=0.5)
    (heat,) = figure.data
    identity, vertical, horizontal = figure.layout.shapes
    assert heat.z.shape == (200, 200)
    assert heat.z.dtype == np.uint8
    assert heat.customdata.sum() == candidate.size
    assert ((heat.z > 0) == (heat.customdata > 0)).all()
    assert heat.z.max() == 255
    assert (identity.x0, identity.x1) == (identity.y0, identity.y1)
    assert (vertical.x0, horizontal.y0) == (0.0, 0.0)
    assert size(figure) < BUDGET


def test_density_names_its_axes() -> None:
    figure = density_figure(density(np.array([0.0, 1.0]), np.array([2.0, 3.0])))
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == (
        "Reference logit",
        "Candidate logit",
    )


# Thresholds


def test_thresholds_show_both_metrics_of_both_splits() -> None:
    figure = thresholds_figure(lines(1))
    curves = [trace for trace in figure.data if trace.mode == "lines"]
    assert [trace.name for trace in curves] == ["run 0 · validation"] * 2 + ["run 0 · test"] * 2
    assert [trace.line.dash for trace in curves] == ["dash", "dash", "solid", "solid"]
    assert {trace.line.color for trace in curves} == {PALETTE[0]}
    assert [trace.yaxis for trace in curves] == ["y", "y2", "y", "y2"]
    assert figure.layout.yaxis.title.text == "Micro F1"
    assert figure.layout.yaxis2.title.text == "Macro F1"
    assert figure.layout.xaxis2.title.text == "Threshold on the probability"
    assert curves[0].x.dtype == np.float32
    np.testing.assert_allclose(curves[0].y, 0.5 - (curves[0].x - 0.25) ** 2, rtol=1e-5)


def test_tuned_point_plateau_and_the_fixed_threshold_are_marked() -> None:
    figure = thresholds_figure(lines(1))
    diamonds = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(diamonds) == 4
    np.testing.assert_allclose([d.x[0] for d in diamonds], 0.25, atol=1e-6)
    np.testing.assert_allclose(diamonds[0].y[0], 0.5, atol=1e-6)
    (plateau,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert (plateau.x0, plateau.x1) == (0.23, 0.27)
    fixed = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert {shape.x0 for shape in fixed} == {0.5}


def test_many_runs_stay_within_the_budget_and_keep_their_colours() -> None:
    figure = thresholds_figure(lines(8))
    assert size(figure) < BUDGET
    colours = {trace.name.split(" · ")[0]: trace.line.color for trace in figure.data if trace.mode == "lines"}
    assert list(colours.values()) == [colour(i) for i in range(8)]


def test_no_run_gives_an_empty_figure() -> None:
    assert not thresholds_figure([]).data


# Codes


def codes(codes: list[str], titles: list[str | None], **columns: object) -> pd.DataFrame:
    """A table of the shape that `codes_table` gives."""
    support = list(range(1_000, 1_000 + len(codes)))
    return pd.DataFrame(
        {"code": codes, "title": pd.Series(titles, dtype=object), "support": support, **columns}
    )


def test_codes_stand_in_the_table_order_from_the_top() -> None:
    figure = codes_figure(
        codes(["B", "A"], [None, "alpha"], candidate_f1=[0.1, 0.5], reference_f1=[0.6, 0.4]), "mine", "theirs"
    )
    gap, reference, candidate = figure.data
    assert (reference.name, candidate.name) == ("theirs", "mine")
    assert list(candidate.y) == ["B", "A  alpha"]
    np.testing.assert_allclose(candidate.x, [0.1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(reference.x, [0.6, 0.4], rtol=1e-6)
    assert list(gap.y[:3]) == ["B"] * 3
    np.testing.assert_allclose(gap.x[:3], [0.1, 0.6, np.nan], rtol=1e-6)
    assert list(candidate.text) == ["B<br>1,000 notes carry it", "A, alpha<br>1,001 notes carry it"]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    assert figure.layout.xaxis.title.text == "F1 of the code"


def test_codes_of_like_support_share_a_bar() -> None:
    table = codes(
        ["A", "B", "C", "D"], [None] * 4, candidate_f1=[0.0, 0.2, 0.4, 0.9], reference_f1=[0.0, 0.1, 0.7, 0.8]
    )
    figure = support_figure(table.assign(support=[0, 12, 99, 250_000]), "mine", "theirs")
    candidate, reference = figure.data
    assert list(candidate.x) == ["0<br>1 code", "10 to 99<br>2 codes", "100,000 and more<br>1 code"]
    np.testing.assert_allclose(candidate.y, [0, 0.3, 0.9], rtol=1e-6)
    np.testing.assert_allclose(reference.y, [0, 0.4, 0.8], rtol=1e-6)


def test_one_run_alone_has_dots_only() -> None:
    figure = codes_figure(codes(["A", "B"], [None, None], f1=[0.5, 0.1]))
    assert [trace.name for trace in figure.data] == ["candidate"]


def test_fifty_codes_with_long_titles_stay_small_and_readable() -> None:
    random = np.random.default_rng(3)
    names = [f"C{i:02d}" for i in range(CODES)]
    table = codes(
        names, ["x" * 200] * CODES, candidate_f1=random.random(CODES), reference_f1=random.random(CODES)
    )
    figure = codes_figure(table)
    assert size(figure) < 40_000
    assert max(map(len, figure.data[1].y)) <= 38
    assert len(set(figure.data[1].y)) == CODES
    assert figure.layout.height / CODES >= 20


# Foreign text


def test_plain_text_carries_no_markup_and_no_control_characters() -> None:
    assert plain(LINK) == 'a href="http://host.example"run/a'
    assert plain("a\u202eb\nc\x00") == "abc"
    assert len(plain("x" * 500)) == 60


def test_a_link_in_a_name_reaches_no_figure() -> None:
    grid = np.array([0.4, 0.5])
    figures = [
        thresholds_figure([ThresholdLine(LINK, LINK, grid, grid, grid, tuned=0.5)]),
        codes_figure(codes([LINK], [LINK], candidate_f1=[1.0], reference_f1=[0.5]), LINK, LINK),
    ]
    for figure in figures:
        assert "<a" not in texts(figure)


def test_figures_are_transparent_for_both_themes(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for figure in (
        thresholds_figure(lines(2)),
        codes_figure(codes(["A"], [None], f1=[0.3])),
        difference_histogram(symmetric_log_histogram(pair[0][:10] - pair[1][:10])),
        density_figure(density(pair[0][:10], pair[1][:10])),
    ):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
