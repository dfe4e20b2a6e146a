"""The figures of layer profiles and of the certificate: names, axes and values are read back."""

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from shifamind_core.analysis.certificate import certificate, sorted_margins
from shifamind_core.analysis.flip_bound import flip_bound
from shifamind_core.analysis.layer_divergence import CLEAR_FACTOR, profile_json
from shifamind_core.errors import ShifamindError
from shifamind_core.figures.certificate import at_risk_figure
from shifamind_core.figures.layers import block_of, depth_names, layers_figure
from shifamind_core.runs.layer_profile import LayerProfile
from tests.support.dashboard import small_run

BUDGET = 300_000
LINK = '<a href="http://host.example">x</a>'
NAMES = (
    "base_model.embeddings.LayerNorm",
    "base_model.encoder.layer.0.output.dense",
    "base_model.encoder.layer.0.output",
    "base_model.encoder.layer.1.output.dense",
    "fusion_modules.9.query",
    "diagnosis_head",
)


def profile(policy: str = "fp32", own: float | None = None, names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """A profile's JSON whose error grows with depth; `own`, where given, is what the fourth module adds."""
    size = len(names)
    zeros, grown = np.zeros(size), np.geomspace(1e-7, 1e-5, size)
    added = np.full(size, 1e-7)
    if own is not None:
        added[3] = own
        grown[3:] += own
    return profile_json(
        LayerProfile(
            candidate=policy, reference="fp64", names=names, kinds=("Linear",) * size, mean=zeros, std=zeros + 1.0,
            absmax=zeros + 3.0, non_finite=zeros.astype(np.int64), reference_std=zeros + 1.0, relative_error=grown,
            input_error=grown, inherited_error=grown, own_error=added, unit_roundoff=2.0**-24, finer_roundoff=2.0**-53,
            notes=4, activation_bytes=0,
        )
    )  # fmt: skip


def trace(figure: go.Figure, name: str) -> go.Scatter:
    (found,) = (one for one in figure.data if one.name == name)
    return found


def test_the_error_of_every_innermost_module_is_drawn_over_depth_on_a_log_axis() -> None:
    figure = layers_figure([profile("fp32"), profile("tf32", own=1e-3)])
    drawn = [name for name in NAMES if name != "base_model.encoder.layer.0.output"]
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.title.text == "Relative error of the output"
    assert depth_names([profile()]) == list(trace(figure, "fp32").customdata) == drawn
    np.testing.assert_allclose(
        trace(figure, "fp32").y, np.geomspace(1e-7, 1e-5, 6)[[0, 1, 3, 4, 5]], rtol=1e-6
    )
    assert list(figure.layout.xaxis.ticktext) == ["input", "0", "1", "fusion 9", "heads"]


def test_the_first_divergence_is_ringed_and_only_where_there_is_one() -> None:
    figure = layers_figure([profile("fp32"), profile("tf32", own=1e-3)])
    (ring,) = (one for one in figure.data if "parts first" in one.name)
    assert ring.name == f"tf32: parts first at {NAMES[3]}"
    assert ring.y[0] == trace(figure, "tf32").y[2] and list(ring.customdata) == [NAMES[3]]
    assert [one.name for one in layers_figure([profile("fp32")]).data] == ["fp32"]


def test_a_block_that_parts_by_itself_is_on_the_axis_although_it_holds_others() -> None:
    found = profile("fp32") | {"first_divergence": NAMES[2]}
    assert NAMES[2] in depth_names([found]) and NAMES[2] not in depth_names([profile("fp32")])


def test_the_excess_is_held_against_what_rounding_explains() -> None:
    found = profile("tf32", own=1e-3)
    figure = layers_figure([found], "excess")
    expected = [layer["excess"] for layer in found["layers"] if layer["innermost"]]
    np.testing.assert_allclose(trace(figure, "tf32").y, expected, rtol=1e-6)
    levels = [one.y0 for one in figure.layout.shapes if one.y0 == one.y1]
    assert levels == [1.0, CLEAR_FACTOR]


def test_a_module_without_error_or_with_an_infinite_one_leaves_a_gap() -> None:
    found = profile("fp16")
    found["layers"][0]["relative_error"] = 0.0
    found["layers"][3]["relative_error"] = None
    found["first_divergence"] = NAMES[3]
    figure = layers_figure([found])
    assert np.isnan(trace(figure, "fp16").y).tolist() == [True, False, True, False, False]
    (ring,) = (one for one in figure.data if "parts first" in one.name)
    assert ring.name.endswith("(NaN or infinity)") and np.isfinite(ring.y).all()


def test_the_chosen_module_has_a_line() -> None:
    lines = [one.x0 for one in layers_figure([profile()], chosen=NAMES[3]).layout.shapes if one.x0 == one.x1]
    assert lines == [2]
    assert not layers_figure([profile()], chosen="no such module").layout.shapes


def test_names_of_modules_and_policies_carry_no_link() -> None:
    figure = layers_figure([profile(LINK, own=1e-3, names=(*NAMES[:3], LINK, *NAMES[4:]))], chosen=LINK)
    assert "<a " not in json.dumps(figure.to_plotly_json(), default=str)


@pytest.mark.parametrize("name", [LINK, "", "head.weight", "encoder.layer.x"])
def test_any_other_name_belongs_to_the_heads(name: str) -> None:
    assert block_of(name) == "heads"


def test_six_policies_on_a_large_model_travel_as_little() -> None:
    parts = ("self.query", "self.key", "self.value", "self", "output.dense", "output.LayerNorm", "dense", "act",
             "out.dense", "out.LayerNorm")  # fmt: skip
    names = tuple(
        f"base_model.encoder.layer.{layer}.attention.{part}" for layer in range(24) for part in parts
    )
    figure = layers_figure([profile(f"policy {number}", names=names) for number in range(6)])
    assert len(figure.to_json()) < BUDGET
    assert trace(figure, "policy 0").y.dtype == np.float32


# The certificate


def test_the_certificate_counts_what_lies_within_twice_the_error_and_no_more() -> None:
    run = small_run(logits=np.array([[0.1, -0.3, 0.05, 2.0]] * 60, np.float32))
    exact = run.logits[:2].astype(np.float64)
    portable = exact.copy()
    portable[0, 0] += 0.04
    found = certificate(run, portable, exact)
    assert found.measured_error == pytest.approx(0.04)
    assert found.at_risk == 60  # 0.05 lies within 0.08 of the threshold, 0.1 does not
    assert found.smallest_margin == pytest.approx(0.05)
    assert found.macro_f1 is not None and found.macro_f1[0] <= found.macro_f1[1]
    assert certificate(run, exact, exact).at_risk == 0


def test_of_a_large_run_the_nearest_margins_are_sorted_and_the_line_ends_with_them(monkeypatch) -> None:
    run = small_run()
    every = sorted_margins(run)
    monkeypatch.setattr("shifamind_core.analysis.certificate.MOST_MARGINS", every.size // 3)
    monkeypatch.setattr("shifamind_core.runs.blocks.BLOCK_CELLS", 50)
    near = sorted_margins(run)
    assert 0 < near.size < every.size / 2 and np.array_equal(near, every[: near.size])
    line = trace(at_risk_figure(near, every.size, 2e-3, {}), "decisions within ε")
    whole = trace(at_risk_figure(every, every.size, 2e-3, {}), "decisions within ε")
    known = line.x <= near[-1]
    assert 0 < known.sum() < known.size and np.isnan(line.y[~known]).all()
    assert np.array_equal(line.y[known], whole.y[known], equal_nan=True)
    exact = run.logits[:2].astype(np.float64)
    found = certificate(run, exact + every[5] / 2, exact)
    bound = flip_bound(run).f1_range(found.epsilon)
    assert found.at_risk == np.count_nonzero(every <= found.epsilon) and found.smallest_margin == every[0]
    assert (found.macro_f1, found.micro_f1) == (bound.macro_f1, bound.micro_f1)


def test_a_certificate_of_logits_that_are_not_finite_is_refused() -> None:
    bad = small_run(logits=np.full((60, 4), np.nan, np.float32))
    with pytest.raises(ShifamindError, match="finite"):
        certificate(bad, np.zeros((1, 4)), np.zeros((1, 4)))


def test_decisions_at_risk_are_counted_along_the_axis() -> None:
    margins = sorted_margins(small_run())
    figure = at_risk_figure(margins, margins.size, 2e-3, {"fp64": 0.0, "tf32": 1e-3, LINK: 0.3})
    line = trace(figure, "decisions within ε")
    counted = np.searchsorted(margins, line.x, side="right")
    assert (np.abs(np.nan_to_num(line.y) - counted) <= 1).all()  # x is rounded to float32 for the browser
    assert np.isnan(line.y[0]) and (np.diff(line.y[~np.isnan(line.y)]) >= 0).all()
    assert sorted(one.x0 for one in figure.layout.shapes) == [1e-3, 2e-3, 0.3]
    assert {one.text for one in figure.layout.annotations} >= {"tf32", "<b>certified: 2.0e-03</b>"}
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert "<a " not in json.dumps(figure.to_plotly_json(), default=str)


def test_a_machine_without_any_error_needs_no_mark() -> None:
    assert not at_risk_figure(np.array([0.0, 0.5]), 2, 0.0, {}).layout.shapes
