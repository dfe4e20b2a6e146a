"""The page on the case that was reported, driven without a browser."""

from dataclasses import replace

import pytest

from shifamind_core.diagnosis.claims import SEED_CLAIMS
from shifamind_core.precision.policy import NumericFlags
from tests.support.dashboard import Dashboard, dashboard, filled, small_run
from tests.ui.test_page_diagnosis import add_ladder, button, choose, text

__all__ = ["dashboard", "filled"]  # fixtures


def line(on: Dashboard, title: str) -> str:
    """The line of that experiment."""
    (found,) = (one.value for one in on.open("case").markdown if f"{title}.**" in one.value)
    return found.replace("\\", "")


def test_the_table_is_called_a_report_and_what_follows_is_told_from_what_is_likely(filled: Dashboard) -> None:
    app = filled.open("case")
    assert not app.exception
    assert "nothing of it was measured here" in text(app)
    table = app.dataframe[0].value
    assert list(table.loc["A100"]) == list(SEED_CLAIMS["A100"].values())
    for badge in ("Follows from the numbers", "Likely", "Not proven"):
        assert badge in text(app)


def test_the_decisive_pair_is_one_button_with_the_a100_chosen(filled: Dashboard) -> None:
    app = filled.open("case")
    button(app, "Casing on, casing off").click().run()
    app = choose(app, "L4")
    button(app, "Casing on, casing off").click().run()
    (kind, spec), (_, other) = filled.submitted
    assert kind == "replay" and spec["only"] == ["lowercase=true", "lowercase=false"]
    assert spec["reported"].startswith("macro_f1@0.5=0.2169,micro_f1@0.5=0.3717,best_threshold=0.22")
    assert other["reported"].startswith("macro_f1@0.5=0.1912,best_threshold=0.21")


def test_its_result_stands_below_it(filled: Dashboard) -> None:
    app = filled.open("case")
    button(app, "Casing on, casing off").click().run()
    trials = [
        {"interventions": [name], "explained": 0.5, "distance": distance, "scores": {"macro_f1@0.5": 0.2},
         "half_widths": {}, "max_abs_residual": None, "notes": 60}
        for name, distance in (("lowercase=false", 0.4), ("lowercase=true", 9.0))
    ]  # fmt: skip
    result = {"verdict": "ranked", "best": trials[0], "base": trials[1], "trials": trials,
              "sentence": "lowercase=false comes nearest.", "remarks": []}  # fmt: skip
    filled.add_job("replay", "done", spec=filled.submitted[0][1], result=result)
    app = app.run()
    assert not app.exception
    assert "lowercase=false comes nearest" in text(app)
    assert any("interventions" in one.value for one in app.dataframe)
    assert "comes nearest" not in text(choose(app, "L4")), "another machine's scores are another question"


def test_a_search_that_runs_is_shown_beside_its_button(filled: Dashboard) -> None:
    name = filled.add_job(
        "replay", "running", alive=True, message="Scoring", progress_done=1, progress_total=4
    )
    button(filled.open("case"), "Cancel").click().run()
    assert filled.cancelled == [name]


def test_without_a_checkpoint_nothing_can_be_started(dashboard: Dashboard) -> None:
    app = dashboard.open("case")
    assert not app.exception
    assert button(app, "Casing on, casing off").disabled and app.error


def test_the_demo_is_not_taken_for_the_cases_checkpoint(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHIFAMIND_RUN_DIR")
    assert "cannot stand in for it" in text(dashboard.open("case"))


def test_experiments_say_what_came_out_and_what_was_not_run(filled: Dashboard) -> None:
    assert "Done" in line(filled, "1. FP32 forced") and "Macro F1" in line(filled, "1. FP32 forced")
    for title in ("2. Deterministic mode", "3. FP64", "4. Layers profiled"):
        assert "Not run" in line(filled, title)
    add_ladder(filled)
    careful = small_run(policy="portable", seed=9)
    filled.compute(
        replace(
            careful, manifest=replace(careful.manifest, flags=NumericFlags(deterministic_algorithms=True))
        )
    )
    filled.add_job("layers", "done", result={"profiles": [{"explanation": "No module parts."}]})
    assert "at most 1e-06 a logit from FP64" in line(filled, "3. FP64")
    assert "Macro F1" in line(filled, "2. Deterministic mode")
    assert "No module parts" in line(filled, "4. Layers profiled")
    assert "GPU none" in line(filled, "6. Environment checked")


def test_two_runs_of_one_casing_are_what_is_compared(filled: Dashboard) -> None:
    assert "Not run" in line(filled, "5. Logits of two GPUs compared"), (
        "the reference there is cased, the run is not"
    )
    filled.add_reference(small_run(noise=0.01, seed=4), "a100.safetensors")
    assert "a100" in line(filled, "5. Logits of two GPUs compared")
