"""What is said about limits and about files is what the code does."""

import re
import stat
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from shifamind_core.commands import COMMANDS, Host
from shifamind_core.jobs import read_job
from shifamind_core.jobs.store import jobs_folder, submit
from shifamind_core.runs.cache import RunCache
from shifamind_core.specs import PredictSpec
from simulation.builders import tiny_run_directory
from tests.support.waiting import until

PROJECT = Path(__file__).resolve().parents[1]
SECURITY, PRIVACY = ((PROJECT / "docs" / f"{name}.md").read_text() for name in ("security", "privacy"))
UNITS = {"": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
LIMITS = re.findall(r"^\| .+ \| ([\d,]+) ?(\w*) \| `([\w.]+)` \|$", SECURITY, re.MULTILINE)
NAMED = re.compile(
    r"(LARGEST|MOST|LONGEST|SHORTEST|FEWEST)_[A-Z_]+|(CPU|GRACE|HEAD)_SECONDS|MEMORY_BYTES|KEPT|WRONG_TOKENS"
)


def number(value: object) -> float:
    if isinstance(value, str):  # of a setting, as a person writes it
        size, unit = value.split()
        return int(size) * UNITS[unit]
    return float(value)


def test_the_document_lists_limits():
    assert len(LIMITS) > 20


@pytest.mark.parametrize(("size", "unit", "name"), LIMITS, ids=[name for *_, name in LIMITS])
def test_every_limit_in_the_document_is_the_one_in_the_code(size, unit, name):
    module, _, constant = name.rpartition(".")
    found = getattr(import_module(f"shifamind_core.{module}"), constant)
    assert number(found) == int(size.replace(",", "")) * UNITS[unit]


def test_the_browsers_upload_limit_is_the_settings():
    settings = tomllib.loads((PROJECT / ".streamlit" / "config.toml").read_text())
    assert f"| {settings['server']['maxUploadSize']} MB | `.streamlit/config.toml`" in SECURITY


@pytest.fixture(scope="module")
def used_cache(tmp_path_factory):
    """A cache after a prediction in this process, a job, and a replay; and the run directory they were about."""
    place = tmp_path_factory.mktemp("privacy")
    folder = tiny_run_directory(place / "run_1", notes=8)
    before = {path: path.stat() for path in folder.rglob("*")}
    cache = place / "cache"
    host = Host(cache, RunCache(cache).load, lambda *_: None)
    spec = {"run_directory": str(folder), "max_length": 16, "device": "cpu", "lowercase": "true"}
    COMMANDS["predict"].run(PredictSpec(**spec), host)
    name = submit(
        cache,
        "replay",
        {"run_directory": str(folder), "device": "cpu", "notes": 8, "reported": "macro_f1@0.5=0.5"},
    )
    job = until(lambda: (job := read_job(cache, name)).active is False and job)
    assert job.status == "done", job.error
    until(lambda: not (jobs_folder(cache) / name / "reserve").exists())  # it has said its last word
    return cache, folder, before


def test_every_folder_of_the_cache_is_in_the_document(used_cache):
    cache, _, _ = used_cache
    folders = {path.name for path in cache.iterdir() if path.is_dir()}
    documented = set(re.findall(r"`cache/(\w+)/`", PRIVACY))
    assert {"runs", "jobs"} <= folders <= documented


def test_what_is_kept_is_readable_by_its_owner_only(used_cache):
    cache, _, _ = used_cache
    inside = [path for folder in cache.iterdir() for path in (folder, *folder.rglob("*"))]
    modes = {path.relative_to(cache).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in inside}
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert any(name.startswith(jobs_folder(cache).name) for name in modes)


def test_nothing_is_written_to_the_run_directory(used_cache):
    _, folder, before = used_cache
    after = {path: path.stat() for path in folder.rglob("*")}
    assert {path: (found.st_size, found.st_mtime_ns) for path, found in after.items()} == {
        path: (found.st_size, found.st_mtime_ns) for path, found in before.items()
    }
