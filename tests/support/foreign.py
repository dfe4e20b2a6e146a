"""Foreign files of one synthetic run: what people bring, written as they write it."""

import io
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from shifamind_core.runs.run import Run

CODES = (
    "E785",
    "I10",
    "Z87891",
    "0389",
    "0088",
    *(f"K{i}" for i in range(100, 121)),
)  # 26, as in the field cases
NOTES = 300


def _made() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = (random.random((NOTES, len(CODES))) < random.uniform(0.05, 0.4, len(CODES))).astype(np.uint8)
    return (random.normal(-1.5, 1.5, labels.shape) + 2 * labels).astype(np.float32), labels


LOGITS, LABELS = _made()
PROBABILITIES = expit(LOGITS)
IDS = [f"note-{i}" for i in range(NOTES)]


def whole(**changes: Any) -> Run:
    """The run that all of the files hold."""
    from shifamind_core.runs.tables import document_ids_of

    ids = document_ids_of("ids", IDS)[0]
    return Run(LOGITS, **{"name": "whole", "codes": CODES, "labels": LABELS, "document_ids": ids} | changes)


def written(write: Callable[[Any], Any]) -> bytes:
    """The bytes that `write` puts into a binary file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def table(values: np.ndarray = LOGITS, codes: Iterable[str] = CODES, ids: bool = True) -> pd.DataFrame:
    """Scores under codes, document ids in front."""
    first = {"document_id": IDS[: len(values)]} if ids else {}
    return pd.DataFrame({**first, **dict(zip(codes, values.T, strict=True))})


def csv(*parts: pd.DataFrame) -> bytes:
    """The tables side by side, as a CSV file."""
    return pd.concat(parts, axis=1).to_csv(index=False).encode()


def npz(*unnamed: np.ndarray, **named: np.ndarray) -> bytes:
    return written(lambda file: np.savez(file, *unnamed, **named))


def npy(array: np.ndarray) -> bytes:
    return written(lambda file: np.save(file, array))


def pt(content: Any) -> bytes:
    return written(lambda file: torch.save(content, file))


def jsonl(lines: Iterable[Any]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy())


def batches(array: np.ndarray, size: int = 64) -> list[torch.Tensor]:
    """Consecutive notes, the last batch smaller."""
    return [tensor(array[start : start + size]) for start in range(0, len(array), size)]


def pairs(dtype: type = np.float64) -> list[np.ndarray]:
    """scikit-learn's `predict_proba`: one array [notes, 2] a code."""
    wide = expit(LOGITS.astype(np.float64))
    return [np.column_stack([1 - column, column]).astype(dtype) for column in wide.T]
