"""notebooks/colab.ipynb, cell by cell in a kernel of its own: all of it but Google's Drive and a tunnel."""

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from simulation.builders import tiny_run_directory
from tests.support.server import ROOT, Dashboard

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nbformat
    from nbclient import NotebookClient

NOTEBOOK = ROOT / "notebooks" / "colab.ipynb"


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5 and not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.filterwarnings("ignore")  # what the kernel's own libraries warn of is theirs
def test_the_notebook_leaves_torch_alone_finds_the_run_directory_and_prints_a_link_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_directory = tmp_path / "drive" / "results" / "run_1"
    tiny_run_directory(run_directory)
    monkeypatch.setenv("SHIFAMIND_CACHE", str(tmp_path / "cache"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    (settings,) = [cell for cell in book.cells if cell.id == "settings"]
    settings.source += f"\nPROJECT, LOOK_IN = {str(ROOT)!r}, {str(tmp_path / 'drive')!r}"
    client = NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with client.setup_kernel():
        for number, cell in enumerate(book.cells):
            client.execute_cell(cell, number)
        printed = {
            cell.id: "".join(output.get("text", "") for output in cell.outputs)
            for cell in book.cells
            if cell.cell_type == "code"
        }
        assert (
            printed["install"].startswith("Unchanged: ") and f"torch {version('torch')}" in printed["install"]
        )
        assert printed["find"].strip() == str(run_directory)
        assert "architecture: cls_fusion" in printed["inspect"]
        said, link = printed["start"].strip().splitlines()
        assert said.startswith("Nothing leaves this machine")
        place = urlsplit(link)
        dashboard = Dashboard(None, place.port or 0, tmp_path)  # type: ignore[arg-type]
        assert dashboard.request(f"/?{place.query}").status == 303
        started = ["-m", "shifamind_core", "serve", "--run-dir", str(run_directory)]
        processes = psutil.process_iter(["cmdline"])
        (server,) = [one for one in processes if (one.info["cmdline"] or [])[1:6] == started]
    assert psutil.wait_procs([server], timeout=20)[1] == [], "it ends with the kernel"
