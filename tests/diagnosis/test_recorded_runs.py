"""What a GPU recorded of the demo's checkpoint is named for what it is, with manifests and from logits alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file

REFERENCES = Path(__file__).parents[2] / "shifamind_core" / "demo" / "data" / "references"


def recorded(name: str, split: str) -> Run:
    return read_run_file(REFERENCES / f"h200-{name}-{split}.safetensors")


def bare(run: Run) -> Run:
    return replace(run, manifest=Manifest(), document_ids=None, token_digests=None, token_counts=None)


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize(
    ("name", "cause", "alone"),
    [
        ("tf32", "numerics", "numerics"),
        ("bf16-autocast", "numerics", "numerics"),
        ("cased", "tokenizer_casing", "input_changed"),
    ],
)
def test_a_recorded_run_is_likely_what_it_is(name: str, cause: str, alone: str, split: str) -> None:
    candidate, reference = recorded(name, split), recorded("fp32", split)
    for found, right in (
        (diagnose(candidate, reference).findings[0], cause),
        (diagnose(bare(candidate), bare(reference)).findings[0], alone),
        (diagnose(bare(reference), bare(candidate)).findings[0], alone),
    ):
        assert (found.cause, found.status) == (right, "likely")
