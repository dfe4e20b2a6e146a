"""The diagnosis page, driven without a browser."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from shifamind_core.analysis.alignment import align
from shifamind_core.analysis.comparison import compare
from shifamind_core.analysis.flip_bound import flip_bound
from shifamind_core.analysis.gap_split import split_gap
from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.claims import SEED_CLAIMS
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.diagnosis.findings import percent
from shifamind_core.listing import named
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.diagnosis import findings_table, trials_table
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import CheckpointRecord
from shifamind_core.ui.diagnosis.gap import gap_sentence
from tests.support.dashboard import Dashboard, dashboard, filled, small_run

__all__ = ["dashboard", "filled"]  # fixtures
HOSTILE = '![x](http://host.example/b.png) <a href="http://host.example">x</a>'
POLICIES = {"fp32": 1e-6, "emulated-tf32": 1e-3, "bf16": 2.0}


def reference():
    """The run beside the run directory of `filled`."""
    return small_run(lowercase=False, noise=1.5, seed=7)


def text(app: AppTest) -> str:
    """All that the page says, without escapes."""
    kinds = ("markdown", "caption", "info", "warning", "error", "subheader", "header")
    return " ".join(one.value for kind in kinds for one in getattr(app, kind)).replace("\\", "")


def charts(app: AppTest) -> dict[str, dict[str, Any]]:
    """Figures by the title of their horizontal axis."""
    specs = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    return {spec["layout"]["xaxis"]["title"]["text"]: spec for spec in specs}


def button(app: AppTest, label: str):
    (found,) = (one for one in app.button if one.label == label)
    return found


def choose(app: AppTest, value: str) -> AppTest:
    """Press that segment, on whichever control it is."""
    (control,) = (
        one for one in app.get("button_group") if value in [option.content for option in one.proto.options]
    )
    return control.set_value(value).run()


def add_ladder(on: Dashboard, **more: Any) -> None:
    """A finished ladder whose runs lie in the cache."""
    runs = {name: small_run(policy="fp32", noise=error, seed=5) for name, error in POLICIES.items()}
    runs["fp64"] = small_run(policy="fp32")
    on.compute(*runs.values())
    rungs = [
        {"policy": name, "max_abs": error, "p99_abs": error / 2, "median_abs": error / 9, "rms": error / 5,
         "flips": 1, "decisions": 240, "macro_f1": 0.5, "micro_f1": 0.5, "seconds": 1.0, "non_finite": 0}
        for name, error in {"fp64": 0.0, **POLICIES}.items()
    ]  # fmt: skip
    rungs.append(
        {"policy": "tf32", "refused": "TF32 needs an NVIDIA GPU of compute capability 8.0 or later."}
    )
    digests = {name: run.digest for name, run in runs.items()}
    result = {"rungs": rungs, "documents": 64, "checkpoint": "c", "device": "CPU", "run_digests": digests}
    on.add_job("ladder", "done", result=result | more, spec={"split": "test", "limit": 64})


def replay_result(**more: Any) -> dict[str, Any]:
    def trial(*names: str, explained: float = 0.0) -> dict[str, Any]:
        return {"interventions": [*names], "explained": explained, "max_abs_residual": 1 - explained,
                "rms_residual": 0.1, "notes": 64}  # fmt: skip

    return {
        "verdict": "confirmed",
        "best": trial("lowercase=false", explained=1.0),
        "base": trial(),
        "trials": [trial("lowercase=false", explained=1.0), trial("max_length=128", explained=0.25)],
        "sentence": "Confirmed: lowercase=false reproduces the other run.",
        "remarks": [],
        "before_after": {
            "exponents": [-2.0, -1.0, 0.0],
            "before": [3, 7],
            "after": [1, 0],
            "zeros": {"before": 0, "after": 9},
            "scores": {"macro_f1": {"before": 0.8, "after": 0.6, "reference": 0.6}},
        },
    } | more


# The empty case, and what needs labels or a checkpoint


def test_the_empty_page_says_what_to_do_next(dashboard: Dashboard) -> None:
    app = dashboard.open("diagnosis")
    assert not app.exception
    assert "Compute one, or upload one" in app.info[0].value
    app = choose(app, "Scores reported elsewhere")
    assert not app.exception
    assert "Compute one, or upload one" in app.info[0].value


def test_runs_without_labels_are_still_diagnosed(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    dashboard.compute(small_run(labels=None))
    dashboard.add_reference(small_run(lowercase=False, noise=1.5, seed=7, labels=None), "cased.safetensors")
    app = dashboard.open("diagnosis")
    assert not app.exception
    assert "has no labels" in text(app)
    assert any("badge" in one.label for one in app.expander)


def test_runs_with_nothing_in_common_are_a_finding(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    random = np.random.default_rng(9)
    other = small_run(document_ids=np.arange(60), logits=random.normal(0, 1, (60, 4)).astype(np.float32))
    dashboard.compute(small_run())
    dashboard.add_reference(other, "other.safetensors")
    app = dashboard.open("diagnosis")
    assert not app.exception
    assert "Most likely it was other notes." in text(app)


def test_without_a_run_directory_nothing_can_be_started(dashboard: Dashboard) -> None:
    for run in (small_run(), reference()):
        dashboard.upload(run)
    for view, label in (("rounding", "Run the ladder"), ("replay", "Start the replay")):
        app = dashboard.open("diagnosis", view=view)
        assert not app.exception
        assert button(app, label).disabled
        assert "Nothing can be run here" in text(app)


# The proof and the ladder


def test_the_proof_is_about_these_two_runs(filled: Dashboard) -> None:
    app = filled.open("diagnosis")
    assert not app.exception
    compared = compare(small_run(), reference())
    needed = flip_bound(small_run()).smallest_epsilon(macro_f1=compared.macro_f1.reference)
    said = text(app)
    assert f"Macro F1 {compared.macro_f1.candidate:.4f} → {compared.macro_f1.reference:.4f}" in said
    assert f"needs at least {needed:.2g} in every decision at once" in said
    assert "Run the precision ladder" in said


def test_a_ladder_puts_its_errors_into_proof_and_table(filled: Dashboard) -> None:
    add_ladder(filled)
    app = filled.open("diagnosis", view="rounding")
    assert not app.exception
    said = text(app)
    assert "emulated-tf32 and finer cannot explain this gap" in said
    assert "tf32** is refused here: TF32 needs an NVIDIA GPU" in said
    proof = charts(app)["ε: no logit moves by more than this"]
    drawn = {one["text"] for one in proof["layout"]["annotations"]}
    assert {"fp32", "emulated-tf32", "bf16"} <= drawn
    (rungs,) = (one.value for one in app.dataframe if "p99_abs" in one.value)
    assert list(rungs["policy"]) == ["fp64", *POLICIES]


def test_where_the_bound_does_not_decide_a_sample_stands_beside_it(filled: Dashboard) -> None:
    add_ladder(filled)
    app = filled.open("diagnosis", view="rounding")
    (ranges,) = (one.value for one in app.dataframe if "Macro F1, exact range" in one.value)
    sampled = dict(zip(ranges["Policy"], ranges["Macro F1, sampled (no bound)"], strict=True))
    assert " – " in sampled["bf16"] and pd.isna(sampled["fp32"])
    assert "sampled, not a bound" in text(app)


def test_a_ladder_whose_runs_were_removed_still_proves(filled: Dashboard) -> None:
    add_ladder(filled, run_digests={})
    app = filled.open("diagnosis")
    assert not app.exception
    assert "sampled, not a bound" not in text(app)


def test_a_ladder_of_another_version_is_as_none(filled: Dashboard) -> None:
    filled.add_job("ladder", "done", result={"rungs": "?"})
    app = filled.open("diagnosis")
    assert not app.exception
    assert "Run the precision ladder" in text(app)


def test_the_tuned_protocol_is_proved_too(filled: Dashboard) -> None:
    filled.compute(small_run("val", lowercase=False, noise=1.5, seed=7))
    app = choose(filled.open("diagnosis", view="rounding"), "At the tuned threshold")
    assert not app.exception
    assert "Tuned m" in text(app)


def test_the_ladder_is_started_as_chosen(filled: Dashboard) -> None:
    app = choose(filled.open("diagnosis", view="rounding"), "256 notes")
    button(app, "Run the ladder").click().run()
    asked = {"lowercase": "true", "max_length": 512, "split": "test", "limit": 256}
    assert filled.submitted == [("ladder", {**filled.source, **asked})], "tokenized as the candidate was"


@pytest.mark.parametrize("kind", ["ladder", "replay"])
def test_a_running_job_shows_progress_and_can_be_cancelled(filled: Dashboard, kind: str) -> None:
    name = filled.add_job(kind, "running", alive=True, message="Scoring", progress_done=1, progress_total=4)
    app = filled.open("diagnosis", view={"ladder": "rounding"}.get(kind, kind))
    assert not app.exception
    button(app, "Cancel").click().run()
    assert filled.cancelled == [name]


def test_a_failed_ladder_says_why(filled: Dashboard) -> None:
    filled.add_job("ladder", "failed", error="The checkpoint is damaged.")
    assert "The checkpoint is damaged" in text(filled.open("diagnosis", view="rounding"))


# Which model


def of_weights(digest: str | None, **more: Any):
    """A run whose manifest names these weights."""
    run = small_run(**more)
    record = CheckpointRecord(weights_digest=digest, architecture="cls_fusion", parameters=1000)
    return replace(run, manifest=replace(run.manifest, checkpoint=record))


def test_the_page_says_which_model_it_speaks_of(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    ours = of_weights("c" * 64, noise=0.01, seed=9)
    dashboard.compute(ours)
    dashboard.add_reference(of_weights("d" * 64, lowercase=False, noise=1.5, seed=7), "cased.safetensors")
    add_ladder(dashboard, checkpoint="c" * 64)
    said = text(dashboard.open("diagnosis", candidate=ours.digest[:12]))
    assert "run_1 · CLS fusion · 1,000 parameters · weights cccccccc · CPU" in said
    assert "The reference has **other weights** (dddddddd)" in said
    assert "The precision ladder has the same weights, on CPU, 64 notes" in said
    add_ladder(dashboard, checkpoint="e" * 64)
    said = text(dashboard.open("diagnosis", candidate=ours.digest[:12]))
    assert "measured another checkpoint than the candidate's" in said


def test_a_model_that_no_manifest_names_is_not_guessed(filled: Dashboard) -> None:
    add_ladder(filled)
    said = text(filled.open("diagnosis"))
    assert "Model of the candidate: **run_1 · CPU**" in said
    assert "cannot be held against weights that are not known" in said


# Findings, provenance, hypotheses, parts of the gap


def test_findings_stand_in_order_and_only_the_open_one_is_drawn(filled: Dashboard) -> None:
    app = filled.open("diagnosis")
    held = [f for f in diagnose(small_run(), reference()).findings if f.status != "ruled_out" and not f.faint]
    labels = [one.label for one in app.expander if "badge" in one.label and "other cause" not in one.label]
    assert len(labels) == len(held)
    for finding, label in zip(held, labels, strict=True):
        assert CAUSES[finding.cause].title in label
        assert (percent(finding.probability) in label) == (finding.status != "confirmed")
    assert text(app).count("What to do:") == 1


def test_a_ruled_out_cause_can_be_opened_to_its_evidence(filled: Dashboard) -> None:
    refuted = [
        f for f in diagnose(small_run(), reference()).findings if f.status == "ruled_out" and f.evidence
    ]
    app = filled.open("diagnosis")
    assert not [one for one in app.selectbox if one.label == "Evidence of"], "drawn when it is opened"
    stem = f"{small_run().digest[:8]}-{reference().digest[:8]}"
    app.session_state[f"finding.{stem}.ruled_out"] = True
    app = app.run()
    (picker,) = (one for one in app.selectbox if one.label == "Evidence of")
    app = picker.set_value(refuted[0].cause).run()
    shown = [one.value for one in app.dataframe if "Evidence" in one.value]
    assert set(shown[-1]["Evidence"]) == {named(name) for name in refuted[0].evidence}


def test_fields_that_differ_say_what_they_can_explain(filled: Dashboard) -> None:
    app = filled.open("diagnosis")
    (table,) = (one.value for one in app.dataframe if "Can explain" in one.value)
    row = table[table["Field"] == "tokenization.lowercase"].iloc[0]
    assert (row["Candidate"], row["Reference"]) == ("True", "False")
    (toggle,) = (one for one in app.toggle if "every field" in one.label)
    app = toggle.set_value(True).run()
    (fields,) = (one.value for one in app.dataframe if "agreement" in one.value)
    assert {"differs", "same"} <= {*fields["agreement"]}


def test_each_of_the_five_hypotheses_has_a_line(filled: Dashboard) -> None:
    said = text(filled.open("diagnosis", view="rounding"))
    for name in ("Tensor-core", "cuDNN and CUDA", "matrix products", "Non-deterministic", "Memory layout"):
        assert name in said


def test_the_parts_of_the_gap_are_shown_with_intervals(filled: Dashboard) -> None:
    app = filled.open("diagnosis", view="gap")
    assert "F1, candidate − reference" in charts(app)
    (table,) = (one.value for one in app.dataframe if "Macro F1, 95 %" in one.value)
    gap = compare(small_run(), reference()).macro_f1.gap
    assert table["Macro F1"][0] == f"{gap:+.4f}"
    assert f"**Macro F1 {gap:+.4f}: " in text(app)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda logits, noise: logits - 2.5, "ranking is kept"),
        (lambda logits, noise: noise, "no recalibration mends it"),
        (lambda logits, noise: noise - 2.5, "Two kinds of change"),
    ],
)
def test_what_the_gap_is_made_of_is_said_in_words(change, kinds: str) -> None:
    """The reference's logits shifted, permuted among the notes of each code, or both."""
    random = np.random.default_rng(0)
    labels = (random.random((4000, 4)) < 0.3).astype(np.uint8)
    logits = labels * 3 - 1.5 + random.normal(0, 1, labels.shape)
    there = small_run(logits=logits.astype(np.float32), labels=labels, document_ids=None)
    noise = random.permuted(logits, axis=0)
    here = replace(there, logits=change(logits, noise).astype(np.float32))
    assert kinds in gap_sentence(split_gap(align(here, there)))


# Scores reported elsewhere


def reported(on: Dashboard, view: str = "replay") -> AppTest:
    return choose(on.open("diagnosis", view=view), "Scores reported elsewhere")


def test_a_row_of_the_seed_fills_the_form_and_is_called_a_claim(filled: Dashboard) -> None:
    app = choose(reported(filled), "H100")
    assert not app.exception
    assert app.number_input(key="reported.macro_f1@0.5").value == 0.2934
    app = choose(app, "L4")
    assert app.number_input(key="reported.micro_f1@0.5").value is None
    (table,) = (one.value for one in app.dataframe if "Reported" in one.value)
    assert list(table["Reported"]) == list(SEED_CLAIMS["L4"].values())


def test_reported_scores_alone_give_a_proof(filled: Dashboard) -> None:
    add_ladder(filled)
    app = reported(filled, "rounding")
    app = app.number_input(key="reported.macro_f1@0.5").set_value(0.2934).run()
    assert not app.exception
    needed = flip_bound(small_run()).smallest_epsilon(macro_f1=0.29345)
    assert f"→ 0.2934 needs at least {needed:.2g}" in text(app)
    assert "ruled out" in text(app).lower()


def test_reported_scores_stand_beside_what_a_macro_here_is_over(filled: Dashboard) -> None:
    part = small_run(noise=0.7, seed=11).select(columns=np.arange(3))
    filled.upload(part)
    app = choose(filled.open("diagnosis", candidate=part.digest[:12]), "Scores reported elsewhere")
    app = app.number_input(key="reported.macro_f1@0.5").set_value(0.3).run()
    assert not app.exception
    assert "Macro F1 over 3 of 4 codes: the others have no scores in the candidate." in text(app)


def test_without_any_score_the_page_asks_for_one(filled: Dashboard) -> None:
    app = reported(filled)
    assert not app.exception
    assert "Fill in at least one reported score" in text(app)


def test_a_ranking_by_reported_scores_is_shown(filled: Dashboard) -> None:
    app = choose(reported(filled), "L4")
    button(app, "All interventions").click().run()
    ((_, spec),) = filled.submitted
    trials = [
        {"interventions": names, "explained": 0.5, "distance": distance, "scores": {"macro_f1@0.5": 0.2},
         "half_widths": {}, "max_abs_residual": None, "notes": 60}
        for names, distance in ((["lowercase=false"], 0.4), ([], 9.0))
    ]  # fmt: skip
    result = {"verdict": "ranked", "best": trials[0], "base": trials[1], "trials": trials,
              "sentence": "lowercase=false comes nearest.", "remarks": ["Tried two."]}  # fmt: skip
    filled.add_job("replay", "done", spec=spec, result=result)
    app = app.run()
    assert not app.exception
    assert "comes nearest" in text(app)
    (table,) = (one.value for one in app.dataframe if "interventions" in one.value)
    assert list(table["interventions"]) == ["lowercase=false", "none"]


# Replay


def started(on: Dashboard) -> dict[str, Any]:
    """The specification of a replay that was started on the page."""
    button(on.open("diagnosis", view="replay"), "Start the replay").click().run()
    return on.submitted[-1][1]


def test_a_replay_names_a_reference_that_the_worker_can_load(filled: Dashboard) -> None:
    spec = started(filled)
    assert (spec["notes"], spec["depth"], spec["split"]) == (64, 3, "test")
    assert RunCache(filled.cache).load(spec["reference"]).digest == reference().digest
    offered = filled.open("diagnosis", view="replay").selectbox(key="reference").options
    assert len(offered) == len(set(offered)) == 2, "the copy in the cache is not offered again"


def test_a_replay_of_these_two_is_the_verdict(filled: Dashboard) -> None:
    filled.add_job("replay", "done", spec=started(filled), result=replay_result())
    app = filled.open("diagnosis", view="replay")
    assert not app.exception
    assert app.subheader[0].value.replace("\\", "").startswith("It was the tokenizer's casing, not the GPU. ")
    assert "|difference| from the reference, in logits (log scale)" in charts(app)
    (table,) = (one.value for one in app.dataframe if "explained" in one.value)
    assert list(table["interventions"]) == ["lowercase=false", "max_length=128"]
    (scores,) = (one.value for one in app.dataframe if "Before" in one.value)
    assert list(scores.iloc[-1]) == ["Macro F1 @0.5", "0.8000", "0.6000", "0.6000"]


def test_a_replay_of_another_reference_is_not_shown(filled: Dashboard) -> None:
    filled.add_job("replay", "done", spec=started(filled) | {"reference": "0" * 16}, result=replay_result())
    app = filled.open("diagnosis", view="replay")
    assert "reproduces the other run" not in text(app)


def test_the_running_search_shows_its_trials(filled: Dashboard) -> None:
    partial = {"trials": replay_result()["trials"]}
    filled.add_job("replay", "running", alive=True, spec=started(filled), partial=partial)
    app = filled.open("diagnosis", view="replay")
    assert not app.exception
    (table,) = (one.value for one in app.dataframe if "explained" in one.value)
    assert table["explained"][0] == 1.0


@pytest.mark.parametrize(
    ("status", "said"), [("failed", "no note in common"), ("cancelled", "was cancelled")]
)
def test_a_replay_that_did_not_end_well_says_so(filled: Dashboard, status: str, said: str) -> None:
    filled.add_job("replay", status, spec=started(filled), error="They have no note in common.")
    assert said in text(filled.open("diagnosis", view="replay"))


# Files


def test_findings_and_trials_are_files_here_and_in_the_report(filled: Dashboard) -> None:
    filled.add_job("replay", "done", spec=started(filled), result=replay_result())
    for view, label in (("looks", "Findings as CSV"), ("replay", "Trials as CSV")):
        labels = [one.label for one in filled.open("diagnosis", view=view).get("download_button")]
        assert [one for one in labels if one.endswith("CSV")] == [label]
    app = filled.open("report")
    assert not app.exception
    assert {"findings.csv", "trials.csv"} <= {one.label for one in app.get("download_button")}


def test_hostile_names_reach_neither_markdown_nor_a_figure(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    codes = (HOSTILE, "I10", "Z66", "=1+1")
    dashboard.compute(small_run("val", codes=codes), small_run(codes=codes))
    dashboard.add_reference(
        small_run(lowercase=False, noise=1.5, seed=7, codes=codes), "![x](http:host.example).safetensors"
    )
    add_ladder(dashboard, device=HOSTILE)
    spec = started(dashboard)
    result = replay_result(sentence=HOSTILE, remarks=[HOSTILE], verdict=HOSTILE)
    dashboard.add_job("replay", "done", spec=spec, result=result)
    app = dashboard.open("diagnosis")
    assert not app.exception
    for kind in ("markdown", "caption", "info", "error", "warning", "subheader", "title", "expander"):
        for element in getattr(app, kind):
            assert "![x](" not in f"{getattr(element, 'value', element.label if kind == 'expander' else '')}"
    for chart in app.get("plotly_chart"):
        assert "<a " not in chart.proto.spec


def test_tables_of_findings_and_trials_read_back() -> None:
    found = diagnose(small_run(), reference())
    table = pd.read_csv(io.StringIO(csv_text(findings_table(found))))
    assert list(table["cause"]) == [one.cause for one in found.findings]
    assert json.loads(table["evidence"][0]) == found.findings[0].to_json()["evidence"]
    trials = pd.read_csv(io.StringIO(csv_text(trials_table(replay_result()))))
    assert list(trials["explained"]) == [1.0, 0.25]
