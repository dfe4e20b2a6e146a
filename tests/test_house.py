"""The house rules on imports, read from the sources, and seen in a process of its own."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Who may import whom: a floor imports from lower floors only, a room from itself.
FLOORS: list[tuple[str, ...]] = [
    ("errors",),
    ("arrays", "listing", "locks", "logs", "options", "progress", "records", "settings"),
    ("precision", "artifacts"),
    ("runs",),
    ("specs",),
    ("model",),
    ("analysis", "inference"),
    ("diagnosis", "experiments", "replay"),
    ("figures", "report", "tasks"),
    ("html_report",),
    ("demo", "serve"),
    ("commands",),
    ("jobs",),
    ("ui", "cli"),
    ("pages", "app", "__main__"),
]
# The same within the interface; the folders of the pages stand side by side.
UI_FLOORS: list[tuple[str, ...]] = [
    ("ui.text",),
    ("ui.session",),
    ("ui.site",),
    ("ui.widgets",),
    (
        "ui.overview",
        "ui.case",
        "ui.codes",
        "ui.differences",
        "ui.diagnosis",
        "ui.inference",
        "ui.layers",
        "ui.portability",
        "ui.storage",
    ),
]
# What stands beside the product, and what it leaves alone.
APART = {
    "shifamind_core": ("simulation", "tests", "benchmarks"),
    "pages": ("simulation", "tests", "benchmarks"),
    "simulation": ("tests", "benchmarks"),
    "benchmarks": ("tests",),
    "tests": ("benchmarks",),
}
TORCH_ROOMS = (
    "model",
    "inference",
    "precision.apply",
    "precision.bitwise",
    "precision.emulate",
    "precision.observe",
    "experiments",
    "replay",
    "demo.train",
)
STREAMLIT_ROOMS = ("ui", "pages", "app")
PLOTLY_ROOMS = ("figures", "html_report.page")
LIGHT_MODULES = tuple(
    f"shifamind_core.{room}"
    for room in ("analysis", "runs", "diagnosis", "figures", "report", "specs", "commands")
)


def modules() -> dict[str, Path]:
    """Every module of the project under its name without `shifamind_core`."""
    files = {
        path.relative_to(ROOT / "shifamind_core"): path for path in (ROOT / "shifamind_core").rglob("*.py")
    }
    files |= {path.relative_to(ROOT): path for path in [ROOT / "app.py", *(ROOT / "pages").glob("*.py")]}
    named = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): file for path, file in files.items()
    }
    return {name: file for name, file in named.items() if name != "__init__"}


def imports(file: Path) -> Iterator[str]:
    """Names of imported modules, `from x import y` as both `x` and `x.y`; those for type checkers alone are left out."""
    tree = ast.parse(file.read_text())
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports name the whole path"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lies_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def floor_of(module: str, floors: list[tuple[str, ...]] = FLOORS) -> tuple[int, str] | None:
    """Floor and room of a module."""
    return next(
        ((floor, room) for floor, rooms in enumerate(floors) for room in rooms if lies_in(module, room)), None
    )


def breaches(module: str, imported: list[str]) -> list[str]:
    """Imports of `module` that break a rule, each as a sentence.

    >>> breaches("analysis.counts", ["shifamind_core.runs.run", "shifamind_core.ui.session.state", "torch"])
    ['analysis.counts imports ui.session.state, which stands above it', 'analysis.counts imports torch']
    """
    found = []
    for name in imported:
        if name.startswith("shifamind_core."):
            target = name.removeprefix("shifamind_core.")
            for floors in (FLOORS, UI_FLOORS):
                ours, theirs = floor_of(module, floors), floor_of(target, floors)
                if ours and theirs and ours[1] != theirs[1] and theirs[0] >= ours[0]:
                    where = "above" if theirs[0] > ours[0] else "beside"
                    found.append(f"{module} imports {target}, which stands {where} it")
        for package, rooms in (
            ("torch", TORCH_ROOMS),
            ("streamlit", STREAMLIT_ROOMS),
            ("plotly", PLOTLY_ROOMS),
        ):
            if name == package and not any(lies_in(module, room) for room in rooms):
                found.append(f"{module} imports {package}")
    return found


def test_every_module_has_a_floor() -> None:
    assert [name for name in modules() if floor_of(name) is None] == []
    inside = [name for name in modules() if lies_in(name, "ui") and name != "ui"]
    assert [name for name in inside if floor_of(name, UI_FLOORS) is None] == []


@pytest.mark.parametrize("module", modules())
def test_imports_point_downwards_and_stay_in_their_rooms(module: str) -> None:
    assert breaches(module, list(imports(modules()[module]))) == []


@pytest.mark.parametrize("folder", APART)
def test_what_stands_beside_the_product_is_kept_apart(folder: str) -> None:
    found = {
        (file.relative_to(ROOT).as_posix(), name)
        for file in (ROOT / folder).rglob("*.py")
        for name in imports(file)
        if name.split(".")[0] in APART[folder]
    }
    assert not found


def test_the_rules_catch_a_breach() -> None:
    assert breaches("figures.codes", ["plotly", "torch", "streamlit", "shifamind_core.runs.run"]) == [
        "figures.codes imports torch",
        "figures.codes imports streamlit",
    ]
    assert breaches("runs.cache", ["shifamind_core.inference.predict"]) != []
    assert breaches("report.tables", ["shifamind_core.figures.codes"]) != []
    assert breaches("diagnosis.exact.order", ["torch", "shifamind_core.replay.search"]) != []
    assert breaches("ui.layers.profiles", ["shifamind_core.ui.inference.form"]) != []
    assert breaches("ui.session.offers", ["shifamind_core.ui.widgets.charts"]) != []


def loaded_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after the statement."""
    command = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    ended = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_light_rooms_load_neither_torch_nor_streamlit(module: str) -> None:
    inside = [
        f"import shifamind_core.{name}" for name in modules() if lies_in(f"shifamind_core.{name}", module)
    ]
    assert not loaded_after("\n".join(inside)) & {"torch", "transformers", "streamlit"}


def test_the_dashboard_never_loads_torch() -> None:
    own = [name for name in modules() if lies_in(name, "ui") and name != "ui.site.router"]
    used = {
        name
        for room in ("pages", "ui")
        for module in modules()
        if lies_in(module, room)
        for name in imports(modules()[module])
    }
    wanted = {
        f"shifamind_core.{name}"
        for name in (*own, *modules())
        if f"shifamind_core.{name}" in used or name in own
    }
    quiet = "import logging; logging.disable()"  # Streamlit remarks on being imported bare
    assert not loaded_after("\n".join([quiet, *(f"import {name}" for name in sorted(wanted))])) & {
        "torch",
        "transformers",
    }
