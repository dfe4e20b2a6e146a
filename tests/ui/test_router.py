"""The router and the two pages of the first section, driven without a browser. The launcher renders nothing here."""

import ast
from itertools import product
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from shifamind_core import demo, jobs
from shifamind_core.analysis.comparison import compare
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs.store import jobs_folder
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.run_file import write_run_file
from shifamind_core.ui.site import first_run
from shifamind_core.ui.site.launch import ROUTER
from shifamind_core.ui.site.navigation import PAGES, present_pages
from tests.support.damage import DAMAGES, damage
from tests.support.dashboard import Dashboard, errors, metric, small_run

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "![x](http://host.example/b.png)"


def parameter(app: AppTest, name: str) -> str:
    """A query parameter; older AppTests give a list."""
    value = app.query_params[name]
    return value if isinstance(value, str) else value[-1]


# The router ----------------------------------------------------------------------------------------------


def test_the_launcher_is_what_streamlit_looks_for() -> None:
    assigned = [
        node for node in ast.parse((ROOT / "app.py").read_text()).body if isinstance(node, ast.Assign)
    ]
    assert "app = st.App(" in [ast.unparse(node)[:13] for node in assigned]


def test_no_pages_folder_lies_beside_the_router() -> None:
    assert not (ROUTER.parent / "pages").exists()


def test_every_page_file_is_in_the_menu() -> None:
    assert {path.stem for path in (ROOT / "pages").glob("*.py")} == {entry.name for entry in present_pages()}
    assert len({entry.name for entry in PAGES}) == len(PAGES)


@pytest.mark.parametrize("name", [entry.name for entry in present_pages()])
def test_every_page_opens_on_nothing_at_all(dashboard: Dashboard, name: str) -> None:
    app = dashboard.open(name)
    assert not app.exception
    assert app.title, "a page has a heading"
    assert app.info or app.error, "the empty case says what to do"


@pytest.mark.parametrize("name", [entry.name for entry in present_pages()])
def test_every_page_opens_on_a_filled_cache(filled: Dashboard, name: str) -> None:
    app = filled.open(name)
    assert not app.exception
    assert not app.error and not app.warning


@pytest.mark.parametrize("name", [entry.name for entry in present_pages()])
def test_every_page_opens_beside_damaged_jobs(filled: Dashboard, name: str) -> None:
    folders = [jobs_folder(filled.cache) / filled.add_job("probe", "running") for _ in (*DAMAGES, *DAMAGES)]
    for folder, (file, how) in zip(folders, product(("state.json", "process.json"), DAMAGES), strict=True):
        damage(folder / file, how)
    app = filled.open(name)
    assert not app.exception
    if name == "overview":
        lines = [line for line in errors(app) if "The record of this job" in line]
        assert len(lines) == len(DAMAGES)


@pytest.mark.parametrize("name", ["overview", "inference"])
def test_a_job_that_cannot_be_started_is_one_line(filled: Dashboard, name: str, monkeypatch) -> None:
    def refuse(*_):
        raise ShifamindError("No job can be started: No space left on device.")

    app = filled.open(name)
    monkeypatch.setattr(jobs, "submit", refuse)
    (button,) = (one for one in app.button if one.label in ("Look again", "Start"))
    app = button.click().run()
    assert not app.exception
    (line,) = errors(app)
    assert "No space left on device" in line


# Overview ------------------------------------------------------------------------------------------------


def test_a_run_directory_that_is_not_there_is_one_line(dashboard: Dashboard) -> None:
    app = dashboard.open()
    (line,) = errors(app)
    assert "does not exist" in line
    assert dashboard.submitted == []


def test_the_overview_opens_on_the_gap_between_the_own_run_and_the_cased_reference(filled: Dashboard) -> None:
    app = filled.open()
    candidate, reference = small_run(), small_run(lowercase=False, noise=1.5, seed=7)
    comparison = compare(candidate, reference)
    macro, tuned = comparison.macro_f1, evaluate(candidate, small_run("val")).tuned
    assert metric(app, "Macro F1 @0.5") == (f"{macro.candidate:.4f}", f"{macro.gap:+.4f}")
    assert metric(app, "Micro F1, tuned") == (f"{tuned.micro_f1:.4f}", "")
    assert any(
        f"{comparison.decisions_flipped:,} of 240 decisions differ" in one.value for one in app.caption
    )


def test_a_reference_with_a_validation_run_has_a_tuned_gap(filled: Dashboard) -> None:
    filled.add_reference(small_run("val", lowercase=False, noise=1.5, seed=7), "cased_val.safetensors")
    app = filled.open()
    ours = evaluate(small_run(), small_run("val")).tuned
    theirs = evaluate(
        small_run(lowercase=False, noise=1.5, seed=7), small_run("val", lowercase=False, noise=1.5, seed=7)
    ).tuned
    assert metric(app, "Macro F1, tuned")[1] == f"{ours.macro_f1 - theirs.macro_f1:+.4f}"


def test_a_link_names_both_runs_and_opens_on_them_again(filled: Dashboard) -> None:
    first, second = filled.open(), small_run(policy="bf16", noise=0.01, seed=3)
    assert parameter(first, "candidate") == small_run().digest[:12]
    filled.compute(second)
    link = {"candidate": small_run().digest[:12], "reference": second.digest[:12]}
    app = filled.open(**link)
    assert (app.selectbox(key="candidate").value, app.selectbox(key="reference").value) == tuple(
        link.values()
    )
    app.switch_page(str(ROOT / "pages" / "differences.py")).run()
    assert app.selectbox(key="reference").value == second.digest[:12], "pages share the choice"


def test_a_link_to_a_run_that_is_not_here_says_so(filled: Dashboard) -> None:
    app = filled.open(reference=HOSTILE)
    (line,) = (one.value for one in app.warning)
    assert "not on this machine" in line and "![" not in line
    assert app.metric


def test_runs_of_another_run_directory_are_not_offered_as_computed_here(filled: Dashboard) -> None:
    other = small_run(policy="bf16", noise=0.5)
    filled.compute(other, owner=filled.folder / "elsewhere" / "run_1")  # of the same name
    assert "bf16" not in " ".join(filled.open().selectbox(key="candidate").options)


def test_what_is_wrong_comes_first_and_what_is_fine_is_folded_away(filled: Dashboard) -> None:
    checks = [
        {"name": "code order", "status": "ok", "message": "fine"},
        {"name": "casing", "status": "warning", "message": HOSTILE},
        {"name": "shapes", "status": "error", "message": "50 codes in the file, 49 in the model."},
        {"name": "tokenizer", "status": "error", "message": "50 codes in the file, 49 in the model."},
    ]
    filled.inspect(checks=checks)
    app = filled.open()
    (line,) = errors(app)
    assert line.replace("\\", "").startswith("**shapes, tokenizer**: 50 codes in the file")
    assert "![x]" not in app.warning[0].value, "foreign Markdown is escaped"
    assert "1 of 4 checks passed" in [one.label for one in (*app.expander, *app.status)]


def test_the_machine_is_shown_in_a_table_that_reads_no_markdown(filled: Dashboard) -> None:
    tables = [one.value for one in filled.open().dataframe if "Setting" not in one.value]
    values = {name: value for table in tables for name, value in table.itertuples(index=False)}
    assert values["Parameters"] == "110,801,333"
    assert values["GPU memory"] == "16.0 GiB"


def test_looking_again_inspects_anew(filled: Dashboard) -> None:
    app = filled.open()
    assert filled.submitted == []
    (button,) = (one for one in app.button if one.label == "Look again")
    assert not button.click().run().exception
    assert filled.submitted == [("inspect", filled.source)]


def test_another_run_directory_is_opened_and_kept_in_the_address(filled: Dashboard, tmp_path: Path) -> None:
    (tmp_path / "run_2" / "checkpoints").mkdir(parents=True)
    app = filled.open()
    app.text_input[0].set_value(str(tmp_path / "run_2"))
    app.button[0].click().run()
    assert parameter(app, "run_directory") == str(tmp_path / "run_2")
    assert ("inspect", {"run_directory": str(tmp_path / "run_2"), "base_model": None}) in filled.submitted
    app.switch_page(str(ROOT / "pages" / "inference.py")).run()
    assert parameter(app, "run_directory") == str(tmp_path / "run_2")
    assert not app.exception


def test_an_uploaded_reference_is_chosen_and_outlives_the_session(filled: Dashboard, tmp_path: Path) -> None:
    theirs = small_run(policy="fp16", noise=0.3, seed=9)
    write_run_file(theirs, tmp_path / "theirs.safetensors")
    app = filled.open()
    app.file_uploader[0].upload("theirs.safetensors", (tmp_path / "theirs.safetensors").read_bytes()).run()
    assert not app.error and not app.exception
    assert app.selectbox(key="reference").value == theirs.digest[:12]
    assert theirs.digest in {entry.digest for entry in RunCache(filled.cache).entries()}
    assert "theirs.safetensors" in filled.open().selectbox(key="reference").options


@pytest.mark.parametrize("content", [b"", b"no run file", b"\xff" * 100])
def test_a_refused_upload_is_one_line_and_loses_nothing(filled: Dashboard, content: bytes) -> None:
    app = filled.open()
    before = app.selectbox(key="reference").value
    app.file_uploader[0].upload(f"{HOSTILE[:12]}.safetensors", content).run()
    (line,) = errors(app)
    assert not app.exception
    assert "![" not in line and "\n" not in line
    assert app.selectbox(key="reference").value == before
    assert app.metric


# The first start -----------------------------------------------------------------------------------------


@pytest.fixture
def first_start(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    """A start without a run directory: the demo is meant."""
    monkeypatch.delenv("SHIFAMIND_RUN_DIR")
    monkeypatch.setattr(demo, "write_demo", lambda folder: (folder / "checkpoints").mkdir(parents=True))
    monkeypatch.setattr(first_run, "problems", [])
    return dashboard


def test_the_first_start_writes_the_demo_and_computes_both_splits(first_start: Dashboard) -> None:
    first_run.prepare_first_run()
    source = {"run_directory": str(first_start.cache / "demo"), "base_model": None}
    assert (first_start.cache / "demo").is_dir()
    assert first_start.submitted == [
        ("inspect", source),
        ("predict", source | {"split": "test", "lowercase": "true"}),
        ("predict", source | {"split": "val", "lowercase": "true"}),
    ]


def test_a_later_start_computes_nothing_that_is_in_the_cache(first_start: Dashboard) -> None:
    source = {"run_directory": str(first_start.cache / "demo")}
    first_start.compute(small_run(), owner=first_start.cache / "demo")
    for split, digest in (("test", small_run().digest), ("val", "deleted meanwhile")):
        spec = source | {"split": split, "lowercase": "true"}
        first_start.add_job("predict", "done", spec=spec, result={"run_digest": digest})
    first_run.prepare_first_run()
    assert [(kind, spec.get("split")) for kind, spec in first_start.submitted] == [
        ("inspect", None),
        ("predict", "val"),
    ]


def test_a_run_directory_of_ones_own_starts_nothing(filled: Dashboard) -> None:
    first_run.prepare_first_run()
    assert filled.submitted == []


def test_the_overview_waits_for_the_demo_and_says_what_went_wrong(
    first_start: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "being written" in first_start.open().info[0].value

    def refuse(folder: Path) -> None:
        raise ShifamindError(f"{folder} is full {HOSTILE}")

    monkeypatch.setattr(demo, "write_demo", refuse)
    first_run.prepare_first_run()
    app = first_start.open()
    (line,) = errors(app)
    assert "is full" in line and "![" not in line
    assert not app.exception


# Inference -----------------------------------------------------------------------------------------------


def start(app: AppTest) -> AppTest:
    (button,) = (one for one in app.button if one.label == "Start")
    return button.click().run()


def test_start_asks_for_the_seeds_settings_under_fp32(filled: Dashboard) -> None:
    start(filled.open("inference"))
    ((kind, spec),) = filled.submitted
    assert kind == "predict"
    assert spec == filled.source | {
        "split": "test",
        "policy": "fp32",
        "lowercase": "auto",
        "max_length": 512,
        "padding": "max_length",
        "attention": "sdpa",
        "batch_size": 16,
        "limit": None,
        "device": "auto",
        "deterministic": None,
        "cudnn_benchmark": None,
    }


def test_every_choice_reaches_the_worker_and_survives_a_change_of_page(filled: Dashboard) -> None:
    app = filled.open("inference")
    chosen = {
        "casing": "false",
        "length": 384,
        "padding": "longest",
        "split": "val",
        "attention": "eager",
        "device": "cpu",
    }
    for name, value in chosen.items():
        app.radio(key=f"inference.{name}").set_value(value)
    app.selectbox(key="inference.policy").set_value("bf16-autocast")
    app.number_input(key="inference.batch_size").set_value(64)
    app.number_input(key="inference.limit").set_value(100)
    app.toggle(key="inference.deterministic").set_value(True)
    app.run()
    app.switch_page(str(ROOT / "pages" / "overview.py")).run()
    start(app.switch_page(str(ROOT / "pages" / "inference.py")).run())
    ((_, spec),) = filled.submitted
    assert spec == filled.source | {
        "split": "val",
        "policy": "bf16-autocast",
        "lowercase": "false",
        "max_length": 384,
        "padding": "longest",
        "attention": "eager",
        "batch_size": 64,
        "limit": 100,
        "device": "cpu",
        "deterministic": True,
        "cudnn_benchmark": None,
    }


def test_presets_throw_the_switches_and_a_switch_that_is_moved_chooses_the_preset(filled: Dashboard) -> None:
    app = filled.open("inference")

    def shown() -> tuple[object, ...]:
        (autocast, weights) = (
            app.segmented_control(key=f"inference.{name}").value for name in ("autocast", "weights_dtype")
        )
        return (
            app.selectbox(key="inference.policy").value,
            app.toggle(key="inference.tf32").value,
            autocast,
            weights,
        )

    assert shown() == ("fp32", False, None, "float32")
    app.toggle(key="inference.tf32").set_value(True).run()
    assert shown() == ("tf32", True, None, "float32")
    app.segmented_control(key="inference.autocast").set_value("float16").run()
    assert shown() == ("fp16-autocast", False, "float16", "float32")
    app.segmented_control(key="inference.weights_dtype").set_value("bfloat16").run()
    assert shown() == ("bf16", False, None, "bfloat16")
    app.selectbox(key="inference.policy").set_value("portable").run()
    assert shown() == ("portable", False, None, "float32")
    decided = app.toggle(key="inference.deterministic.decided")
    assert decided.value is True and decided.disabled
    assert app.toggle(key="inference.benchmark.decided").value is False
    app.segmented_control(key="inference.weights_dtype").set_value("float64").run()
    start(app)
    ((_, spec),) = filled.submitted
    assert (spec["policy"], spec["deterministic"], spec["cudnn_benchmark"]) == ("fp64", None, None)


def test_a_policy_that_the_device_cannot_honour_cannot_be_chosen_and_says_why(filled: Dashboard) -> None:
    policies = [
        {"name": "fp32", "description": "Plain.", "refused": None},
        {"name": "tf32", "description": "Fast.", "refused": "It needs a GPU of compute capability 8.0."},
    ]
    filled.inspect(policies=policies)
    app = filled.open("inference")
    assert app.selectbox(key="inference.policy").options == ["fp32"]
    assert app.toggle(key="inference.tf32").disabled
    assert any("tf32" in one.value and "needs a GPU" in one.value for one in app.caption)


@pytest.mark.parametrize(("default", "word"), [(True, "lower-cased"), (False, "cased")])
def test_the_effective_casing_is_shown_for_all_three_states(
    filled: Dashboard, default: bool, word: str
) -> None:
    filled.inspect(tokenizer={"lowercase": default})
    app = filled.open("inference")
    for state, effective in {"auto": word, "true": "lower-cased", "false": "cased"}.items():
        app.radio(key="inference.casing").set_value(state).run()
        assert f"Effective: **{effective}**" in [one.value for one in app.caption]


def test_a_running_job_shows_its_progress_and_can_be_cancelled(filled: Dashboard) -> None:
    progress = {
        "message": "Scoring",
        "progress_done": 30,
        "progress_total": 60,
        "rate_per_second": 5.0,
        "eta_seconds": 6.0,
    }
    name = filled.add_job(
        "predict", "running", alive=True, spec={"split": "test", "policy": "bf16"}, **progress
    )
    for page in ("overview", "inference"):
        app = filled.open(page)
        assert "Scoring" in str(app.get("progress")[0].proto) and "value: 50" in str(
            app.get("progress")[0].proto
        )
    app.button(key=f"cancel.{name}").click().run()
    assert filled.cancelled == [name]


@pytest.mark.parametrize("status", ["failed", "lost"])
def test_a_job_that_failed_says_why(filled: Dashboard, status: str) -> None:
    filled.add_job("predict", status, error=f"Out of memory at batch 1. {HOSTILE}")
    for page in ("overview", "inference"):
        (line,) = errors(filled.open(page))
        assert "Out of memory" in line and "![" not in line


def test_an_answer_from_the_cache_says_so(filled: Dashboard) -> None:
    result = {
        "documents": 60,
        "codes": 4,
        "seconds": 1.5,
        "cached": True,
        "remarks": ["3 of 240 logits are NaN."],
    }
    filled.add_job("predict", "done", result=result)
    app = filled.open("inference")
    assert "answered from the cache" in app.success[0].value
    assert "3 of 240 logits are NaN" in app.warning[0].value.replace("\\", "")


def test_logits_that_are_not_finite_are_counted(filled: Dashboard) -> None:
    logits = small_run().logits.copy()
    logits[0, :3] = float("nan")
    filled.compute(small_run(logits=logits))
    app = filled.open("inference")
    assert "3 of its logits are NaN or infinite" in app.warning[0].value
    assert not filled.open().exception


def test_a_run_can_be_deleted(filled: Dashboard) -> None:
    app = filled.open("inference", run=small_run().digest[:12])
    (button,) = (one for one in app.button if one.label == "Delete this run")
    app = button.click().run()
    assert not app.exception
    assert {entry.manifest.split for entry in RunCache(filled.cache).entries()} == {"val"}
