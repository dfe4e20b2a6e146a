"""A stranger's classifier through the whole dashboard: the real results of every job, and every page without an error."""

from pathlib import Path
from typing import Any

import pytest

from shifamind_core.commands import COMMANDS, Host
from shifamind_core.records import from_json
from shifamind_core.runs.run_file import read_run_file, write_run_file
from shifamind_core.tasks import run_predict
from shifamind_core.ui.site.navigation import PAGES
from simulation.classifiers import classifier_run_directory
from tests.support.dashboard import Dashboard, dashboard, errors, filled
from tests.ui.test_page_diagnosis import button, charts, text

__all__ = ["dashboard", "filled"]  # fixtures
SHORT: dict[str, Any] = {"device": "cpu", "max_length": 64}
JOBS: dict[str, dict[str, Any]] = {
    "inspect": {},
    "ladder": SHORT | {"limit": 3},
    "layers": SHORT | {"notes": 2, "policies": ["bf16", "fp32"], "against": "fp64"},
    "probe": {"device": "cpu", "notes": 2},
    "certify": SHORT | {"limit": 6, "referee_notes": 2},
    "rounding": SHORT | {"limit": 3},
}
COVERED_BY_NO_BITWISE = [name for name in JOBS if name != "rounding"]


@pytest.fixture(params=["bert", "distilbert"])
def classifier(dashboard: Dashboard, request: pytest.FixtureRequest) -> Dashboard:
    """A dashboard on such a run directory after all jobs have run, beside it a run cut at 48 tokens, replayed."""
    folder = classifier_run_directory(dashboard.run_directory, request.param, notes=10)
    reference = folder / "references" / "short.safetensors"
    reference.parent.mkdir()
    for split, length in (("val", 64), ("test", 64), ("test", 48)):
        spec = SHORT | {"split": split, "max_length": length}
        run = run_predict(asked(dashboard, "predict", spec), None if length == 48 else dashboard.cache).run
        if length == 48:
            write_run_file(run, reference)
    for name in JOBS if request.param == "bert" else COVERED_BY_NO_BITWISE:
        add_job(dashboard, name, JOBS[name])
    add_job(dashboard, "replay", {"reference": str(reference), "device": "cpu", "depth": 1})
    return dashboard


def asked(dashboard: Dashboard, name: str, spec: dict[str, Any]) -> Any:
    """A page's JSON as the worker reads it."""
    return from_json(COMMANDS[name].spec, dashboard.source | spec, "spec")


def add_job(dashboard: Dashboard, name: str, spec: dict[str, Any]) -> None:
    """Run the command as a worker does, and leave its result."""
    host = Host(dashboard.cache, lambda named: read_run_file(Path(named)), lambda *_: None)
    result = COMMANDS[name].run(asked(dashboard, name, spec), host)
    dashboard.add_job(name, "done", spec=spec, result=result)


def test_every_page_opens_on_a_strangers_classifier(classifier: Dashboard) -> None:
    said = {}
    for page in PAGES:
        app = classifier.open(page.name)
        assert not app.exception and errors(app) == [], page.name
        said[page.name] = text(app)
        if page.name == "layers":
            assert charts(app)
    assert "no concept scores" in said.pop("concepts").lower()
    assert "Hugging Face classifier" in " ".join(said.values())
    assert not any("cls_fusion" in words or "concept" in words.lower() for words in said.values())


def test_the_page_asks_for_weights_and_lengths_that_the_checkpoint_has(filled: Dashboard) -> None:
    filled.inspect(weights=["model_state_dict", "ema_state_dict"], positions=130)
    app = filled.open("inference")
    (weights,) = (one for one in app.selectbox if one.label == "Weights")
    (length,) = (one for one in app.radio if one.label == "Length in tokens")
    assert (weights.options, length.options) == (
        ["model\\_state\\_dict", "ema\\_state\\_dict"],
        ["128", "130"],
    )
    weights.set_value("ema_state_dict").run()
    button(app, "Start").click().run()
    ((_, spec),) = [one for one in filled.submitted if one[0] == "predict"]
    assert spec["weights"] == "ema_state_dict" and spec["max_length"] == 128
