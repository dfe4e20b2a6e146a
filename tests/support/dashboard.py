"""A dashboard without a server: its pages driven by AppTest on a small cache that is filled by hand."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from shifamind_core import jobs, locks
from shifamind_core.jobs.state import JobState, write_state
from shifamind_core.jobs.store import PROCESS_FILE, jobs_folder
from shifamind_core.locks import Lock
from shifamind_core.precision.environment import Environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import Manifest, PolicyRecord, TokenizationRecord, digest_of
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file
from shifamind_core.ui.site.launch import ROUTER
from shifamind_core.ui.site.navigation import page_path

CODES = ("E785", "I10", "Z87891", "K219")
NOTES = 60
AFTER_EVERY_START = "2999-01-01T00:00:00+00:00"  # as if inspected since this server started


def small_run(
    split: str = "test",
    policy: str = "fp32",
    lowercase: bool = True,
    noise: float = 0.0,
    seed: int = 0,
    **more: Any,
) -> Run:
    """The same notes and labels whatever the seed; logits as far from each other as `noise` says."""
    truth = np.random.default_rng(1 if split == "test" else 2)
    labels = (truth.random((NOTES, len(CODES))) < 0.3).astype(np.uint8)
    logits = labels * 2.4 - 1.6 + truth.normal(0, 1.2, labels.shape)
    logits += np.random.default_rng(seed).normal(0, 1, labels.shape) * noise
    manifest = Manifest(
        run_directory="run_1",
        split=split,
        policy=PolicyRecord.of(POLICIES[policy]),
        tokenization=TokenizationRecord(lowercase=lowercase, max_length=512),
        environment=Environment(device="cpu"),
        created_at_utc="2026-02-12T10:00:00+00:00",
        configuration_digest=digest_of([policy, lowercase, noise]),
    )
    run = Run(
        logits.astype(np.float32),
        f"{split} {policy}",
        CODES,
        labels,
        truth.integers(0, 2**40, NOTES),
        manifest=manifest,
    )
    return Run(**{**vars(run), **more}) if more else run


@dataclass
class Dashboard:
    """A run directory, a cache and the jobs that pages submitted; nothing is ever started."""

    folder: Path
    submitted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    alive: list[Lock | None] = field(default_factory=list)

    @property
    def run_directory(self) -> Path:
        return self.folder / "run_1"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def source(self) -> dict[str, Any]:
        return {"run_directory": str(self.run_directory), "base_model": None}

    def make_run_directory(self) -> None:
        (self.run_directory / "checkpoints").mkdir(parents=True)
        (self.run_directory / "references").mkdir()
        (self.run_directory / "shared_data").mkdir()
        for split in ("test", "val"):
            (self.run_directory / "shared_data" / f"{split}_split.pkl").touch()

    def compute(self, *runs: Run, owner: Path | None = None) -> None:
        """Put runs into the cache as if the worker had computed them (from `run_directory`), the last one latest."""
        for run in runs:
            key = {"digest": run.digest}
            RunCache(self.cache).store(run, digest_of(key), key, (owner or self.run_directory).resolve())

    def upload(self, run: Run) -> str:
        """Put a run into the cache as if it had been uploaded to the run directory."""
        return RunCache(self.cache).store_upload(run, self.run_directory.resolve())

    def add_reference(self, run: Run, name: str) -> None:
        write_run_file(run, self.run_directory / "references" / name)

    def add_job(self, kind: str, status: str, alive: bool = False, **state: Any) -> str:
        """A job's folder as its worker would leave it; `alive` holds its lock as a living worker does."""
        name = f"20260101T000000-{len(list(jobs_folder(self.cache).glob('*'))):03d}"
        folder = jobs_folder(self.cache) / name
        folder.mkdir(parents=True)
        spec = self.source | state.pop("spec", {})
        write_state(folder, JobState(name, kind, spec, status, AFTER_EVERY_START, **state))  # type: ignore[arg-type]
        if alive:
            self.alive.append(locks.lock(folder / PROCESS_FILE))
        return name

    def inspect(self, **found: Any) -> None:
        """A finished inspection."""
        policies = [
            {"name": p.name, "description": p.description, "refused": None} for p in POLICIES.values()
        ]
        usual = {
            "architecture": "cls_fusion",
            "parameters": 110_801_333,
            "codes": list(CODES),
            "splits": {"test": NOTES, "val": NOTES},
            "checks": [{"name": "code order", "status": "ok", "message": "The same everywhere."}],
            "tokenizer": {"lowercase": True, "source": "library default"},
            "environment": {"torch": "2.13.0", "gpu_memory_bytes": 2**34},
            "policies": policies,
        }
        self.add_job("inspect", "done", result=usual | found)

    def open(self, name: str = "overview", **parameters: str) -> AppTest:
        """The page as a person finds it, after the router has run."""
        app = AppTest.from_file(str(ROUTER), default_timeout=60)
        for key, value in parameters.items():
            app.query_params[key] = value
        app.run()
        return app if name == "overview" else app.switch_page(page_path(name)).run()


def errors(app: AppTest) -> list[str]:
    return [one.value for one in app.error]


def metric(app: AppTest, label: str) -> tuple[str, str]:
    """The value and the delta under a label."""
    (found,) = (one for one in app.metric if one.label == label)
    return found.value, found.delta


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    """A dashboard on an empty cache, whose run directory does not exist yet."""
    made = Dashboard(tmp_path)
    monkeypatch.setenv("SHIFAMIND_CACHE", str(made.cache))
    monkeypatch.setenv("SHIFAMIND_RUN_DIR", str(made.run_directory))
    monkeypatch.delenv("SHIFAMIND_BASE_MODEL", raising=False)
    monkeypatch.setattr(
        jobs, "submit", lambda cache, kind, spec: made.submitted.append((kind, spec)) or "new"
    )
    monkeypatch.setattr(jobs, "cancel", lambda cache, name: made.cancelled.append(name))
    streamlit.cache_data.clear()
    streamlit.cache_resource.clear()
    return made


@pytest.fixture
def filled(dashboard: Dashboard) -> Dashboard:
    """The same with an inspection, runs of both splits, and a cased reference beside the run directory."""
    dashboard.make_run_directory()
    dashboard.inspect()
    dashboard.compute(small_run("val"), small_run())
    dashboard.add_reference(small_run(lowercase=False, noise=1.5, seed=7), "cased.safetensors")
    return dashboard
