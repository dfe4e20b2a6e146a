"""What is kept: shown with its size and last use, deleted one by one or all at once."""

import numpy as np

from shifamind_core import jobs
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.labels import FILE
from shifamind_core.runs.room import everything_kept, make_room
from shifamind_core.runs.sealed import write_sealed
from tests.support.dashboard import Dashboard, errors, small_run


def shown(app):
    return app.dataframe[0].value


def press(app, label):
    (button,) = (one for one in app.button if one.label == label)
    return button.click().run()


def test_runs_replays_and_jobs_are_listed_with_size_and_last_use(filled: Dashboard) -> None:
    filled.upload(small_run(noise=1.0, name="theirs.csv"))
    write_sealed(filled.cache / "trials" / "k.safetensors", "k", {"logits": np.zeros(100)})
    app = filled.open("storage")
    table = shown(app)
    assert sorted(table["Kind"]) == ["computed", "computed", "jobs", "trial", "uploaded"]
    assert table["Of"].tolist()[:3] == ["run_1"] * 3
    assert table["What"].str.contains("theirs.csv").sum() == 1
    assert table["Last used (UTC)"].notna().all() and table["Size"].str.contains("bytes|kB").all()
    (line,) = (one.value for one in app.markdown if "at most" in one.value)
    assert "3 runs" in line and "10.0 GB at most" in line


def test_one_run_is_deleted_and_the_others_stay(filled: Dashboard) -> None:
    app = filled.open("storage")
    doomed = next(entry for entry in RunCache(filled.cache).entries() if entry.manifest.split == "val")
    app = app.multiselect[0].set_value([doomed.id]).run()
    app = press(app, "Delete them now")
    assert not app.exception and errors(app) == []
    assert [entry.manifest.split for entry in RunCache(filled.cache).entries()] == ["test"]
    assert app.multiselect[0].value == [] and len(shown(app)) == 2


def test_everything_is_deleted_but_what_runs(filled: Dashboard) -> None:
    living = filled.add_job("probe", "running", alive=True)
    app = press(filled.open("storage"), "Delete everything now")
    assert not app.exception and everything_kept(filled.cache) == []
    assert [job.id for job in jobs.list_jobs(filled.cache)] == [living]
    assert "Nothing is kept yet" in app.info[0].value


def test_damaged_entries_can_be_deleted(filled: Dashboard) -> None:
    (entry, *_) = RunCache(filled.cache).entries()
    (RunCache(filled.cache).runs / entry.id / "key.json").write_text("{")
    app = filled.open("storage")
    assert "damaged" in shown(app)["Kind"].tolist()
    app = app.multiselect[0].set_value([entry.id]).run()
    press(app, "Delete them now")
    assert RunCache(filled.cache).problems() == []


def test_what_cannot_be_deleted_is_one_line(filled: Dashboard, monkeypatch) -> None:
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    app = filled.open("storage")
    monkeypatch.setattr("shifamind_core.ui.storage.kept.take_away", refuse)
    app = press(app, "Delete everything now")
    assert not app.exception
    (line,) = errors(app)
    assert "file system" in line and "cannot be changed" in line


def test_a_run_that_a_page_shows_is_in_use_and_outlasts_the_limit(filled: Dashboard, monkeypatch) -> None:
    filled.compute(small_run(noise=2.0, seed=9))
    app = filled.open("thresholds")
    picked = {run.manifest.split for run in RunCache(filled.cache).entries()}
    monkeypatch.setenv("SHIFAMIND_CACHE_LIMIT", "1")
    make_room(filled.cache)
    stayed = {row.manifest.configuration_digest for row in RunCache(filled.cache).entries()}
    assert picked == {"test", "val"} and small_run().manifest.configuration_digest in stayed
    del app


def label(app, title, **said):
    """Fill in the form for the run of that title, and save it."""
    app = app.selectbox(key="storage.run").select(title).run()
    fields = {one.label.split(",")[0]: one for one in (*app.text_input, *app.text_area, *app.checkbox)}
    for name, value in said.items():
        fields[name].set_value(value)
    return press(app, "Save")


def test_a_run_is_named_and_tagged_and_every_picker_says_so_after_a_restart(filled: Dashboard) -> None:
    app = filled.open("storage")
    app = label(app, "cased", Name="the A100", Tags="A100, test", Note="from Monday")
    assert not app.exception and errors(app) == []
    for page in ("overview", "codes", "diagnosis"):  # each a new session
        assert "the A100 · A100 · test" in filled.open(page).selectbox(key="reference").options
    label(filled.open("storage"), "the A100", Name="", Tags="", Note="")
    assert "cased" in filled.open("codes").selectbox(key="reference").options


def test_an_archived_run_is_in_no_picker_and_still_there(filled: Dashboard) -> None:
    label(filled.open("storage"), "cased", Archived=True)
    assert "cased" not in filled.open("codes").selectbox(key="reference").options
    label(filled.open("storage"), "cased", Archived=False)
    assert "cased" in filled.open("codes").selectbox(key="reference").options


def test_a_damaged_file_of_names_is_one_line_and_names_fall_back(filled: Dashboard) -> None:
    label(filled.open("storage"), "cased", Name="the A100")
    (filled.cache / FILE).write_text("{")
    app = filled.open("storage")
    assert not app.exception
    (line,) = errors(app)
    assert "damaged" in line
    for page in ("overview", "codes", "thresholds", "inference"):
        app = filled.open(page)
        assert not app.exception and "the A100" not in str(app.selectbox)
