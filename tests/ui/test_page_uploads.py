"""What a person brings to a page: it belongs to the run directory it was brought to, and may be given a validation run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from tests.support.dashboard import Dashboard, errors, metric, small_run
from tests.support.foreign import csv, npz


def unknown(run: Run) -> Run:
    """The run as a stranger's file holds it: nothing is known of how it was made."""
    return replace(run, manifest=Manifest(), name="theirs")


def as_npz(run: Run, **changes: np.ndarray) -> bytes:
    arrays = {
        "logits": run.logits,
        "labels": run.labels,
        "codes": np.array(run.codes),
        "document_ids": run.document_ids,
    }
    return npz(**arrays | changes)


@pytest.fixture
def theirs() -> Run:
    return unknown(small_run(noise=0.7, seed=11))


def test_an_upload_is_offered_where_it_was_brought_and_nowhere_else(
    filled: Dashboard, theirs: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.upload(theirs)
    label = "theirs"
    assert any(label in one for one in filled.open().selectbox(key="reference").options)
    other = filled.folder / "run_2"
    (other / "checkpoints").mkdir(parents=True)
    monkeypatch.setenv("SHIFAMIND_RUN_DIR", str(other))
    app = filled.open()
    assert not app.exception
    assert not any(label in one for box in app.selectbox for one in box.options)


def test_an_upload_gets_a_tuned_point_from_the_validation_run_that_is_brought_for_it(
    filled: Dashboard, theirs: Run
) -> None:
    validation = unknown(small_run("val", noise=0.7, seed=12))
    app = filled.open()
    app.file_uploader[0].upload("theirs.npz", as_npz(theirs)).run()
    assert metric(app, "Macro F1, tuned")[1] == "", "nothing is known of its validation run"
    app.file_uploader(key="validation").upload("their val.npz", as_npz(validation)).run()
    assert not app.exception and not app.error
    gap = evaluate(small_run(), small_run("val")).tuned.macro_f1 - evaluate(theirs, validation).tuned.macro_f1
    assert metric(app, "Macro F1, tuned")[1] == f"{gap:+.4f}"
    thresholds = filled.open("thresholds", runs=theirs.digest[:12])
    assert not thresholds.exception
    assert not any("is not tuned" in one.value for one in thresholds.caption)


def test_a_validation_run_that_is_the_upload_itself_or_over_other_codes_is_one_line(
    filled: Dashboard, theirs: Run
) -> None:
    filled.upload(theirs)
    before = {entry.id for entry in RunCache(filled.cache).entries()}
    for content, says in (
        (as_npz(theirs), "the same scores of the same"),
        (as_npz(theirs.select(columns=np.arange(2))), "codes are in one of them only"),
        (npz(logits=theirs.logits, codes=np.array(theirs.codes)), "has no labels"),
    ):
        app = filled.open()
        app.file_uploader(key="validation").upload("val.npz", content).run()
        (line,) = errors(app)
        assert says in line and not app.exception
    assert {entry.id for entry in RunCache(filled.cache).entries()} == before


def test_without_an_upload_no_validation_run_is_asked_for(filled: Dashboard) -> None:
    assert len(filled.open().file_uploader) == 1


def test_a_table_of_some_codes_says_beside_every_macro_over_which(filled: Dashboard, tmp_path: Path) -> None:
    theirs = small_run(noise=0.7, seed=11).select(columns=np.arange(3))
    codes = len(small_run().codes)
    filled.upload(replace(unknown(theirs), codes=theirs.codes))
    link = {"candidate": small_run().digest[:12], "reference": theirs.digest[:12]}
    over = f"Macro F1 over 3 of {codes} codes"
    overview = filled.open(**link)
    assert not overview.exception and {f"{over} @0.5", f"{over}, tuned"} <= {
        one.label for one in overview.metric
    }
    page = filled.open("codes", **link)
    assert {f"{over}, candidate", f"{over} gap"} <= {one.label for one in page.metric}
    diagnosis = filled.open("diagnosis", **link)
    assert not diagnosis.exception and any(over in one.value for one in diagnosis.caption)


def test_what_was_assumed_on_upload_stands_on_the_page(filled: Dashboard) -> None:
    run = small_run(noise=0.7, seed=11)
    table = {f"{code}_logit": run.logits[:, i] for i, code in enumerate(run.codes)}
    app = filled.open()
    app.file_uploader[0].upload(
        "theirs.csv", csv(pd.DataFrame({"document_id": run.document_ids, **table}))
    ).run()
    assert not app.exception
    assert any("were read as the codes in their names" in one.value.replace("\\", "") for one in app.warning)


def test_a_damaged_run_is_named_on_the_overview(filled: Dashboard, theirs: Run) -> None:
    id = filled.upload(theirs)
    key = filled.cache / "runs" / id / "key.json"
    key.write_text(key.read_text().replace('"uploaded"', '"computed"'))
    assert any("is damaged" in line for line in errors(filled.open()))
