"""The answer at the head of the overview, and results that were measured elsewhere."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.dashboard import Dashboard, dashboard, filled, metric
from tests.ui.test_page_diagnosis import add_ladder, reference, replay_result, started, text

__all__ = ["dashboard", "filled"]  # fixtures


def record(on: Dashboard, name: str, content: object) -> None:
    folder = on.run_directory / "results"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def recorded_replay(**more: object) -> dict:
    about = {"split": "test", "reference": reference().digest, "reported": None}
    return replay_result(about=about, device="H200", **more)


def recorded_ladder() -> dict:
    rungs = [
        {"policy": name, "max_abs": error, "p99_abs": error, "median_abs": error, "rms": error, "flips": 0,
         "decisions": 240, "macro_f1": 0.5, "micro_f1": 0.5, "seconds": 1.0, "non_finite": 0}
        for name, error in (("fp64", 0.0), ("fp32", 1e-6))
    ]  # fmt: skip
    return {"rungs": rungs, "documents": 64, "checkpoint": "c", "device": "L4", "run_digests": {}}


def headline(app: AppTest) -> str:
    return app.subheader[0].value.replace("\\", "")


def step(app: AppTest, number: int) -> str:
    (found,) = (one for one in app.metric if one.label.startswith(f"{number}. "))
    return found.value


def test_the_overview_opens_with_a_sentence_and_four_steps(filled: Dashboard) -> None:
    app = filled.open()
    assert not app.exception
    assert step(app, 1) == metric(app, "Macro F1 @0.5")[1]
    assert (step(app, 2), step(app, 4)) == ("not measured", "not tried")
    assert step(app, 3).startswith(("Likely", "Possible", "Confirmed"))
    assert headline(app).endswith("badge[:material/trending_up: Likely]") or "may have been" in headline(app)


def test_a_replay_and_a_ladder_change_the_sentence_at_once(filled: Dashboard) -> None:
    before = headline(filled.open())
    add_ladder(filled)
    filled.add_job("replay", "done", spec=started(filled), result=replay_result(device="CPU"))
    app = filled.open()
    assert headline(app).startswith("It was the tokenizer's casing, not the GPU.") and headline(app) != before
    assert step(app, 4) == "Reproduced" and step(app, 2) != "not measured"
    assert "recorded on" not in text(app).lower()


def test_recorded_results_stand_in_until_they_are_run_here(filled: Dashboard) -> None:
    record(filled, "ladder.json", recorded_ladder())
    record(filled, "replay-cased.json", recorded_replay())
    app = filled.open()
    assert headline(app).startswith("It was the tokenizer's casing")
    assert "recorded on L4" in text(app) and "recorded on H200" in text(app)
    assert "Recorded on H200, not run here" in text(filled.open("diagnosis", view="replay"))
    assert "Run the ladder here" in [one.label for one in filled.open("diagnosis", view="rounding").button]
    add_ladder(filled)
    filled.add_job(
        "replay", "done", spec=started(filled), result=replay_result(verdict="unexplained", device="CPU")
    )
    app = filled.open()
    assert "recorded on" not in text(app).lower() and step(app, 4) == "Unexplained"


def test_a_recorded_replay_of_another_reference_is_not_this_ones(filled: Dashboard) -> None:
    other = {"split": "test", "reference": "0" * 64, "reported": None}
    record(filled, "replay.json", recorded_replay() | {"about": other})
    assert step(filled.open(), 4) == "not tried"


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", '"text"', "[" * 100_000,
        {"about": {"split": "test", "reference": reference().digest, "reported": None}},
        recorded_replay() | {"best": {"interventions": "lowercase"}},
        recorded_replay() | {"trials": {"1": 2}},
        recorded_replay() | {"sentence": None},
    ],
    ids=range(10),
)  # fmt: skip
def test_a_damaged_recording_is_as_none(filled: Dashboard, content: object) -> None:
    record(filled, "replay.json", content)
    record(filled, "ladder.json", content)
    for app in (filled.open(), filled.open("diagnosis", view="replay")):
        assert not app.exception
    assert step(filled.open(), 4) == "not tried"


def test_a_recording_is_not_fetched_through_a_link(filled: Dashboard, tmp_path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(recorded_replay()))
    (filled.run_directory / "results").mkdir()
    (filled.run_directory / "results" / "replay.json").symlink_to(tmp_path / "elsewhere.json")
    assert step(filled.open(), 4) == "not tried"
