"""Where this session looks: the run directory, the base model, the cache. Shareable through the address bar."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.settings import cache_folder

RUN_DIRECTORY = "run_directory"
BASE_MODEL = "base_model"
VARIABLES = {RUN_DIRECTORY: "SHIFAMIND_RUN_DIR", BASE_MODEL: "SHIFAMIND_BASE_MODEL"}


@dataclass(frozen=True)
class Workspace:
    """What the pages work on. `base_model` is `None` where the run directory's own, or the hub's, is meant."""

    run_directory: Path
    base_model: Path | None
    cache: Path

    @property
    def is_demo(self) -> bool:
        return self.run_directory == demo_directory()

    @property
    def owner(self) -> Path:
        """Whose the runs are that are computed or brought here: the run's folder, however it was named."""
        try:
            return RunDirectory(self.run_directory).path
        except ShifamindError:  # uploads can be compared without one
            return self.run_directory.resolve()

    @property
    def source(self) -> dict[str, str | None]:
        """The two entries that every job's specification begins with."""
        return {
            "run_directory": str(self.run_directory),
            "base_model": None if self.base_model is None else str(self.base_model),
        }

    def owns(self, spec: Mapping[str, Any]) -> bool:
        """Whether a job of this specification is about the selected run directory."""
        return all(spec.get(name) == value for name, value in self.source.items())


def demo_directory() -> Path:
    return cache_folder() / "demo"


def default_workspace() -> Workspace:
    """From the environment, else the built-in demo."""
    return _workspace({name: os.environ.get(variable, "") for name, variable in VARIABLES.items()})


def current_workspace() -> Workspace:
    """What this session chose, else the default."""
    default = default_workspace()
    return _workspace(
        {
            RUN_DIRECTORY: st.session_state.get(_key(RUN_DIRECTORY), str(default.run_directory)),
            BASE_MODEL: st.session_state.get(_key(BASE_MODEL), str(default.base_model or "")),
        }
    )


def choose(run_directory: str, base_model: str) -> None:
    """Change what this session works on; empty text means the default."""
    st.session_state[_key(RUN_DIRECTORY)] = run_directory.strip() or str(default_workspace().run_directory)
    st.session_state[_key(BASE_MODEL)] = base_model.strip()


def settle() -> None:
    """Keep session and address bar in step; the router calls it before each page.

    A link's parameters seed a new session; afterwards the session writes them back, because a change of
    page drops them.
    """
    default = default_workspace()
    defaults = {RUN_DIRECTORY: str(default.run_directory), BASE_MODEL: str(default.base_model or "")}
    for name, usual in defaults.items():
        if _key(name) not in st.session_state and name in st.query_params:
            st.session_state[_key(name)] = st.query_params[name]
        chosen = st.session_state.get(_key(name), usual)
        if chosen != usual:
            st.query_params[name] = chosen
        elif name in st.query_params:
            del st.query_params[name]


def _workspace(texts: dict[str, str]) -> Workspace:
    directory, base_model = texts[RUN_DIRECTORY].strip(), texts[BASE_MODEL].strip()
    return Workspace(
        run_directory=Path(directory).expanduser().absolute() if directory else demo_directory(),
        base_model=Path(base_model).expanduser().absolute() if base_model else None,
        cache=cache_folder(),
    )


def _key(name: str) -> str:
    return f"workspace.{name}"
