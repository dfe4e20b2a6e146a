"""The pages on layers and on portability, driven without a browser; and what they leave in files."""

import json
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from shifamind_core.commands import COMMANDS
from shifamind_core.errors import PolicyRefused
from shifamind_core.experiments.probes import PROBES
from shifamind_core.precision.policy import POLICIES
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.measurements import certificate_table, layers_table, probes_table
from shifamind_core.specs import CertifySpec, LayersSpec, ProbeSpec, RoundingSpec
from shifamind_core.tasks import run_certify, run_layers, run_probe, run_rounding
from shifamind_core.ui.portability.probes import TITLES
from simulation.builders import tiny_run_directory
from tests.figures.test_figures_layers import NAMES, profile
from tests.report.test_report import read
from tests.support.dashboard import Dashboard, dashboard, filled, small_run
from tests.ui.test_page_diagnosis import HOSTILE, button, charts, choose, text

__all__ = ["dashboard", "filled"]  # fixtures
MODEL = {
    "run_directory": "run_1",
    "architecture": "cls_fusion",
    "parameters": 110_801_333,
    "weights_digest": "3fa9" * 16,
}
ABOUT = {"model": MODEL, "device": "cuda", "gpu": "NVIDIA L4"}
DEPTH = "Depth: encoder layers, module after module"


def profiles(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The result of a `layers` job."""
    return ABOUT | {"split": "test", "tokens": 512, "refused": {}, "profiles": [*found]} | more


def certificate(**more: Any) -> dict[str, Any]:
    """The result of a `certify` job on the run in `filled`."""
    return ABOUT | {
        "threshold": 0.5, "decisions": 240, "at_risk": 3, "measured_error": 2e-3, "measured_notes": 64, "epsilon": 4e-3,
        "smallest_margin": 1e-3, "macro_f1": [0.71, 0.74], "micro_f1": [0.7, 0.7], "explanation": "Three of 240 could differ.",
        "split": "test", "run_digest": small_run().digest, "documents": 60,
    } | more  # fmt: skip


def rounding(**more: Any) -> dict[str, Any]:
    """The result of a `rounding` job."""
    return ABOUT | {
        "split": "test", "policy": "default", "documents": 64, "decisions": 3200, "decisions_flipped": 2, "threshold": 0.5,
        "max_abs_difference": 4e-6, "macro_f1": {"candidate": 0.7, "reference": 0.7004, "gap": -0.0004},
        "micro_f1": {"candidate": None, "reference": None, "gap": None}, "non_finite_cells": 0,
        "fingerprint": "b3fa" * 16, "run_digests": ["0" * 64, "1" * 64], "explanation": "Two decisions changed.",
    } | more  # fmt: skip


def probes(**more: Any) -> dict[str, Any]:
    """The result of a `probe` job."""
    found = [
        {
            "name": "padding",
            "status": "failed",
            "max_abs_difference": 0.25,
            "message": "Logits depend on padding.",
        },
        {
            "name": "cpu_against_gpu",
            "status": "skipped",
            "max_abs_difference": None,
            "message": "There is no GPU.",
        },
    ]
    return ABOUT | {"probes": found} | more


def shown(app: AppTest) -> str:
    """What the page says, captions and metrics among it."""
    return text(app) + " ".join(f"{one.label} {one.value}" for one in app.metric)


# Layers


def test_without_a_profile_the_page_says_what_to_do(filled: Dashboard) -> None:
    app = filled.open("layers")
    assert not app.exception
    assert "Not run yet" in text(app)
    button(app, "Compare layers").click().run()
    ((kind, spec),) = filled.submitted
    assert kind == "layers"
    assert spec == {
        **filled.source, "policies": ["fp32", "tf32", "emulated-tf32", "bf16-autocast"], "against": "fp64",
        "attention": "sdpa", "split": "test", "notes": 4, "lowercase": "auto",
    }  # fmt: skip
    LayersSpec(**spec)


def test_eager_attention_is_held_against_sdpa_under_one_policy(filled: Dashboard) -> None:
    app = choose(filled.open("layers"), "Attention: eager against SDPA")
    button(app, "Compare layers").click().run()
    spec = LayersSpec(**filled.submitted[-1][1])
    assert (spec.policies, spec.against) == (["fp32"], "fp32")
    assert (spec.attention, spec.against_attention) == ("eager", "sdpa")


def test_a_refused_policy_is_not_offered_and_its_reason_is_said(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    refused = [
        {"name": n, "description": "", "refused": "No GPU." if n == "tf32" else None} for n in POLICIES
    ]
    dashboard.inspect(policies=refused)
    app = dashboard.open("layers")
    assert "tf32" not in app.multiselect(key="layers.policies").options
    assert "tf32** is refused here: No GPU." in text(app)


def test_a_policy_against_itself_cannot_be_started(filled: Dashboard) -> None:
    app = filled.open("layers")
    app = app.multiselect(key="layers.policies").set_value(["fp64"]).run()
    assert button(app, "Compare layers").disabled


def test_several_policies_are_one_figure_with_the_model_it_speaks_of(filled: Dashboard) -> None:
    result = profiles(profile("fp32"), profile("emulated-tf32", own=1e-3), refused={"tf32": "It is a CPU."})
    filled.add_job("layers", "done", result=result)
    app = filled.open("layers")
    assert not app.exception
    drawn = charts(app)[DEPTH]
    assert [one["name"] for one in drawn["data"]] == [
        "fp32", "emulated-tf32", f"emulated-tf32: parts first at {NAMES[3]}",
    ]  # fmt: skip
    said = text(app)
    assert "run_1 · CLS fusion · 110,801,333 parameters · weights 3fa93fa9 · NVIDIA L4" in said
    assert f"emulated-tf32**: {NAMES[3]} parts first: it adds a relative error of 1.00e-03" in said
    assert "No module parts" in said
    assert "tf32** was refused: It is a CPU." in said
    app = choose(app, "Own error, in units of rounding")
    assert charts(app)[DEPTH]["layout"]["yaxis"]["title"]["text"] == "Own error, in units of rounding"


def test_the_chosen_layer_is_told_with_its_neighbours(filled: Dashboard) -> None:
    filled.add_job("layers", "done", result=profiles(profile("fp32"), profile("tf32", own=1e-3)))
    app = filled.open("layers")
    assert app.selectbox(key="layers.module").value == NAMES[3], (
        "the first divergence, before anything is clicked"
    )
    app = app.selectbox(key="layers.module").set_value(NAMES[4]).run()
    (table,) = (one.value for one in app.dataframe if list(one.value)[:2] == ["policy", "relative_error"])
    expected = [one["layers"][4]["relative_error"] for one in (profile("fp32"), profile("tf32", own=1e-3))]
    assert list(table["relative_error"]) == expected and list(table["absmax"]) == [3.0, 3.0]
    (near,) = (one.value for one in app.dataframe if "Module" in one.value)
    assert list(near["Module"]) == [NAMES[0], NAMES[1], NAMES[3], f"→ {NAMES[4]}", NAMES[5]]
    assert "fp32 adds 1.0e-07 of its own" in text(app)
    assert charts(app)[DEPTH]["layout"]["shapes"][-1]["x0"] == 3


def test_an_earlier_profile_can_be_looked_at_again(filled: Dashboard) -> None:
    filled.add_job("layers", "done", result=profiles(profile("bf16")))
    filled.add_job("layers", "done", result=profiles(profile("fp32")))
    app = filled.open("layers")
    assert [one["name"] for one in charts(app)[DEPTH]["data"]] == ["fp32"]
    picker = app.selectbox(key="layers.profile")
    app = picker.set_value(f"{picker.value[:-1]}{int(picker.value[-1]) - 1}").run()
    assert [one["name"] for one in charts(app)[DEPTH]["data"]] == ["bf16"]
    filled.add_job("layers", "done", result=profiles(profile("fp16")))
    app = app.run()
    assert [one["name"] for one in charts(app)[DEPTH]["data"]] == ["fp16"], "what has just come in is shown"


def test_what_is_measured_so_far_is_drawn_while_the_rest_runs(filled: Dashboard) -> None:
    name = filled.add_job("layers", "running", alive=True, partial=profiles(profile("fp32")))
    app = filled.open("layers")
    assert not app.exception
    assert [one["name"] for one in charts(app)[DEPTH]["data"]] == ["fp32"]
    button(app, "Cancel").click().run()
    assert filled.cancelled == [name]


@pytest.mark.parametrize(
    ("page", "kind"),
    [("layers", "layers"), ("portability", "probe"), ("portability", "certify"), ("portability", "rounding")],
)
def test_a_failed_job_says_why(filled: Dashboard, page: str, kind: str) -> None:
    filled.add_job(kind, "failed", error="The checkpoint is damaged.")
    assert "The checkpoint is damaged" in text(filled.open(page))


# Portability


def test_the_page_says_who_offers_equal_bits_and_where_it_is_written_that_libraries_do_not(
    dashboard: Dashboard,
) -> None:
    app = dashboard.open("portability")
    assert not app.exception
    (said,) = (one.value for one in app.markdown if "equal bits" in one.value)
    assert "`bitwise` alone" in said and "on offer from nobody" in said
    for source in ("docs.nvidia.com/cuda/cublas", "notes/randomness", "notes/numerical_accuracy"):
        assert source in said
    assert button(app, "Certify").disabled and button(app, "Run the probes").disabled


def test_certificate_and_probes_are_started_as_the_worker_takes_them(filled: Dashboard) -> None:
    app = filled.open("portability")
    assert "Not certified yet" in text(app)
    app.number_input(key="certify.notes").set_value(8)
    button(app, "Certify").click().run()
    button(app, "Run the probes").click().run()
    (_, certify), (_, probe) = filled.submitted
    assert CertifySpec(**certify).referee_notes == 8 and ProbeSpec(**probe).notes == 8


def test_the_gpu_is_taken_out_of_the_question_on_64_notes_unless_all_are_asked_for(filled: Dashboard) -> None:
    app = filled.open("portability")
    assert "Not run yet" in text(app)
    button(app, "Take the GPU out of the question").click().run()
    app = choose(app, "All")
    button(app, "Take the GPU out of the question").click().run()
    asked = [RoundingSpec(**spec) for kind, spec in filled.submitted if kind == "rounding"]
    assert [(one.limit, one.policy, one.split) for one in asked] == [
        (64, "default", "test"),
        (None, "default", "test"),
    ]


def test_what_rounding_changed_is_shown_with_a_fingerprint_to_copy(filled: Dashboard) -> None:
    filled.add_job("rounding", "done", result=rounding())
    filled.add_job("certify", "done", result=certificate(fingerprint="c0de" * 16, fingerprint_notes=32))
    app = filled.open("portability")
    assert not app.exception
    said = shown(app)
    assert "Decisions changed 2 of 3,200" in said and "Macro F1 changed -0.0004" in said
    assert "Micro F1 changed" not in said and "Largest difference 4.0e-06" in said
    assert [one.value for one in app.code] == ["b3fa" * 16, "c0de" * 16]
    assert "64 notes of the test split under default and bitwise" in said
    filled.add_job("rounding", "done", result=rounding(fingerprint=None))
    assert len(filled.open("portability").code) == 1


def test_the_certificate_is_shown_with_its_counts_and_its_figure(filled: Dashboard) -> None:
    filled.add_job("certify", "done", result=certificate())
    app = filled.open("portability")
    assert not app.exception
    said = shown(app)
    assert "Decisions that could differ 3 of 240" in said
    assert "Macro F1 0.7100 – 0.7400" in said and "Micro F1 0.7000" in said
    assert "60 notes of the test split under portable, 64 of them under FP64" in said
    drawn = charts(app)["ε: how far a logit may move"]
    assert [one["text"] for one in drawn["layout"]["annotations"]] == ["<b>certified: 4.0e-03</b>"]


def test_the_ladder_is_beside_the_certificate_only_where_it_measured_the_same_weights(
    filled: Dashboard,
) -> None:
    filled.add_job("certify", "done", result=certificate())
    rung = {"policy": "bf16", "max_abs": 0.5, "non_finite": 0}
    for weights, marks in (
        (MODEL["weights_digest"], {"bf16", "<b>certified: 4.0e-03</b>"}),
        ("other", {"<b>certified: 4.0e-03</b>"}),
    ):
        ladder = {"rungs": [rung], "documents": 64, "checkpoint": weights, "device": "CPU", "run_digests": {}}
        filled.add_job("ladder", "done", result=ladder)
        drawn = charts(filled.open("portability"))["ε: how far a logit may move"]
        assert {one["text"] for one in drawn["layout"]["annotations"]} == marks


def test_a_certificate_whose_run_was_removed_keeps_its_numbers(filled: Dashboard) -> None:
    filled.add_job("certify", "done", result=certificate(run_digest="0" * 64, macro_f1=None, micro_f1=None))
    app = filled.open("portability")
    assert not app.exception
    assert "3 of 240" in shown(app) and not charts(app)


def test_every_probe_has_a_verdict_a_number_and_a_sentence(filled: Dashboard) -> None:
    filled.add_job("probe", "done", result=probes())
    app = filled.open("portability")
    said = text(app)
    assert "Failed" in said and "2.5e-01" in said.replace("\\", "") and "Logits depend on padding." in said
    assert "Skipped" in said and "There is no GPU." in said
    assert set(TITLES) == set(PROBES)


def test_running_probes_are_shown_as_they_come_in(filled: Dashboard) -> None:
    name = filled.add_job("probe", "running", alive=True, partial=probes())
    app = filled.open("portability")
    assert "Logits depend on padding." in text(app)
    button(app, "Cancel").click().run()
    assert filled.cancelled == [name]


def test_hostile_text_reaches_neither_markdown_nor_a_figure(filled: Dashboard) -> None:
    model = MODEL | {"run_directory": HOSTILE}
    found = profile(HOSTILE, own=1e-3) | {"explanation": HOSTILE}
    filled.add_job("layers", "done", result=profiles(found, model=model, refused={HOSTILE: HOSTILE}))
    hostile = [{"name": HOSTILE, "status": HOSTILE, "max_abs_difference": None, "message": HOSTILE}]
    filled.add_job("probe", "done", result=probes(probes=hostile, model=model))
    filled.add_job("certify", "done", result=certificate(explanation=HOSTILE, split=HOSTILE))
    filled.add_job(
        "rounding", "done", result=rounding(explanation=HOSTILE, split=HOSTILE, policy=HOSTILE, model=model)
    )
    for page in ("layers", "portability"):
        app = filled.open(page)
        assert not app.exception
        for kind in ("markdown", "caption", "info", "error", "warning"):
            assert not [one.value for one in getattr(app, kind) if "![x](" in one.value]
        assert not [chart for chart in app.get("plotly_chart") if "<a " in chart.proto.spec]


# Files


def test_layers_probes_and_certificate_are_files_of_the_report(filled: Dashboard) -> None:
    filled.add_job("layers", "done", result=profiles(profile("fp32")))
    filled.add_job("probe", "done", result=probes())
    filled.add_job("certify", "done", result=certificate())
    app = filled.open("report")
    assert not app.exception
    assert {"layers.csv", "probes.csv", "certificate.csv"} <= {
        one.label for one in app.get("download_button")
    }


def test_tables_of_measurements_read_back_and_name_the_model_in_every_row() -> None:
    tables = {
        "layers": layers_table(profiles(profile("fp32"), profile("tf32", own=1e-3))),
        "probes": probes_table(probes()),
        "certificate": certificate_table(certificate(micro_f1=None)),
    }
    back = {name: read(csv_text(table)) for name, table in tables.items()}
    for table in back.values():
        assert set(table["weights_digest"]) == {MODEL["weights_digest"]} and set(table["gpu"]) == {
            "NVIDIA L4"
        }
    layers = back["layers"]
    assert len(layers) == 2 * len(NAMES)
    assert list(layers[layers["parts_first"]]["name"]) == [NAMES[3]]
    assert layers["relative_error"][3] == profile("fp32")["layers"][3]["relative_error"]
    assert list(back["probes"]["status"]) == ["failed", "skipped"]
    row = back["certificate"].iloc[0]
    assert (row["macro_f1_lowest"], row["macro_f1_highest"], row["at_risk"]) == (0.71, 0.74, 3)
    assert pd.isna(row["micro_f1_lowest"])


# What the worker gives the pages


def test_the_worker_says_which_model_it_measured_and_what_was_refused(tmp_path, monkeypatch) -> None:
    folder = str(tiny_run_directory(tmp_path, "concept_attention", notes=6))
    told: list[int] = []
    spec = LayersSpec(folder, policies=("fp32", "tf32"), notes=2, max_length=32, device="cpu")
    found = run_layers(spec, tmp_path, partial=lambda sofar: told.append(len(sofar["profiles"])))
    assert told == [1] and [one["policy"] for one in found["profiles"]] == ["fp32"]
    assert "compute capability 8.0" in found["refused"]["tf32"]
    with pytest.raises(PolicyRefused, match="tf32"):
        run_layers(LayersSpec(folder, policies=("tf32",), notes=2, device="cpu"), tmp_path)

    monkeypatch.setattr("shifamind_core.experiments.probes.PROBES", {"strict_load": PROBES["strict_load"]})
    probed = run_probe(ProbeSpec(folder, device="cpu", notes=2), tmp_path, partial=json.dumps)
    certified = run_certify(CertifySpec(folder, device="cpu", max_length=32, referee_notes=2), tmp_path)
    rounded = run_rounding(RoundingSpec(folder, device="cpu", max_length=32, limit=2), tmp_path)
    assert certified["fingerprint"] == rounded["fingerprint"] is not None, "two notes, both times"
    for result in (found, probed, certified, rounded):
        assert result["model"] == found["model"] and result["device"] == "cpu"
    assert (
        found["model"]["architecture"] == "concept_attention" and len(found["model"]["weights_digest"]) == 64
    )
    assert all(COMMANDS[name].job for name in ("layers", "probe", "certify", "rounding"))
    json.dumps([found, probed, certified, rounded], allow_nan=False)
