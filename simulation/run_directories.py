"""Run directories around models that a benchmark made: the seed's layout, the demo's codes and synthetic notes."""

import json
from pathlib import Path

import torch
from torch import nn

from shifamind_core.demo.labels import CODES
from shifamind_core.demo.notes import write_note
from shifamind_core.demo.writer import split_table


def write_run_directory(folder: Path, model: nn.Module, notes: int) -> None:
    """`folder` becomes one, with a test split of so many notes; its base model is written by others."""
    (folder / "checkpoints" / "phase1").mkdir(parents=True)
    (folder / "shared_data").mkdir()
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    content = {
        "model_state_dict": state,
        "epoch": 1,
        "config": {"top_50_codes": list(CODES), "num_classes": len(CODES)},
    }
    torch.save(content, folder / "checkpoints" / "phase1" / "phase1_best.pt")
    table = split_table([write_note("test", index) for index in range(notes)])
    table.to_pickle(folder / "shared_data" / "test_split.pkl", protocol=4)
    info = {
        "timestamp": "20260102_203225",
        "top_50_codes": list(CODES),
        "top_50_counts": dict.fromkeys(CODES, 1),
        "valid_admissions": 1,
    }
    (folder / "shared_data" / "top50_icd10_info.json").write_text(json.dumps(info))
