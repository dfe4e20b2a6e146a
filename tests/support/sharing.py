"""Run by torchrun in place of the command: `predict` under several settings, and then the last process is lost.

Notes are tokenized by processes of their own, as those of large splits are.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from shifamind_core.cli import main
from shifamind_core.errors import ShifamindError
from shifamind_core.inference import encoding, pipeline
from shifamind_core.inference.group import Group
from shifamind_core.inference.predict import Prediction, predict
from shifamind_core.inference.tokenization import ModelInput, tokenize
from shifamind_core.inference.tokenizer import load_tokenizer
from shifamind_core.precision.policy import POLICIES

CPU = torch.device("cpu")
ENCODERS: list[encoding.Encoders] = []  # started here


class OutOfMemoryInLast(nn.Module):
    """The model; in the last process it has no room for more than four notes."""

    def __init__(self, model: nn.Module, group: Group) -> None:
        super().__init__()
        self.model, self.last = model, group.rank == group.size - 1

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        if self.last and len(input_ids) > 4:
            raise torch.OutOfMemoryError
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


def every_setting(model: nn.Module, notes: ModelInput, group: Group) -> dict[str, Prediction]:
    """By what is special about it; notes do not fill the last batch."""
    fp32 = POLICIES["fp32"]
    return {
        "uneven": predict(model, notes, fp32, CPU, 5, group=group),
        "a process without notes": predict(model, notes, fp32, CPU, 64, group=group),
        "longest": predict(model, replace(notes, longest=True), fp32, CPU, 3, group=group),
        "bitwise": predict(model, notes, POLICIES["bitwise"], CPU, 8, group=group),
        "half precision": predict(model, notes, POLICIES["bf16-autocast"], CPU, 8, group=group),
        "out of memory": predict(OutOfMemoryInLast(model, group), notes, fp32, CPU, 16, group=group),
    }


def arrays(found: dict[str, Prediction]) -> dict[str, np.ndarray]:
    """All that the predictions say, but for their time."""
    named = {}
    for name, one in found.items():
        named |= {f"{name}: logits": one.logits, f"{name}: batch": np.array([one.batch_size])}
        named |= {f"{name}: concepts": one.concept_scores, f"{name}: remarks": np.array(one.remarks, str)}
    return named


class _Kept(encoding.Encoders):
    def __init__(self, *given: Any) -> None:
        ENCODERS.append(self)
        super().__init__(*given)


def _lose_one(model: nn.Module, notes: ModelInput, *rest: object) -> Prediction:
    group = rest[-1]
    assert isinstance(group, Group) and group.size > 1
    found = arrays(every_setting(model, notes, group))
    tokenizer = load_tokenizer(Path(sys.argv[2]) / "base_model", None)
    try:
        tokenize(("a note of both", f"a note of process {group.rank}"), tokenizer, group=group)
    except ShifamindError as error:
        found["refusal"] = np.array([str(error)])
    started = np.zeros(group.size, np.int64)
    started[group.rank] = len(ENCODERS)
    found["encoders"] = group.joined(started)
    if group.rank == 0:
        np.savez(Path(os.environ["FOUND"]), allow_pickle=False, **found)
    if group.rank == group.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return predict(model, notes, POLICIES["fp32"], CPU, 5, group=group)


if __name__ == "__main__":
    encoding.MANY_CHARACTERS, encoding.SENT = 0, 4
    encoding.processors, encoding.Encoders = lambda: 2, _Kept  # type: ignore[assignment,misc]
    pipeline.predict = _lose_one  # type: ignore[assignment]
    sys.exit(main())
