"""The diagnosis of runs saved with few decimals: `python -m simulation.decimals DIR`.

Reads the `pairs-N.npz` and the corpus that `simulation.corpus --pairs` wrote into DIR, saves every pair of the families that
the cause model was fitted on as FP32 logits and as probabilities with 6, 4 and 3 decimals, in the candidate or in both runs,
and asks the product's own `diagnose`, which knows nothing else. Writes `decimals.json`: the table of docs/diagnosis.md, and what
was behind the pairs whose files differ by no more than single steps, which `diagnosis.judge` reads as probabilities.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from shifamind_core.diagnosis.classifier.cause_model import FILE
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.probability import logits_of, stand_ins
from shifamind_core.runs.run import Run
from simulation.evaluate import KEY, Pair, asked, pairs, summary
from simulation.judged import judged_rows, read

RESULT = Path(__file__).with_name("decimals.json")
PLACES = (6, 4, 3)
# What may be said where saving changed as much as the fault did: that it did, or that nothing but rounding is seen.
NOTHING_LEFT = {"stored_precision", "numerics", "identical"}
FORMS = ("float32", *(f"{places} decimals in {whose}" for places in PLACES for whose in ("one", "both")))


def saved(run: Run, places: int) -> Run:
    """The run as it is read from a table of its probabilities with so many decimals."""
    logits, note = logits_of(rounded(run, places).astype(np.float32))
    return replace(run, logits=logits, manifest=Manifest(logits_from_probabilities=True, notes=(note,)))


def rounded(run: Run, places: int) -> np.ndarray:
    """An FP32 sigmoid's probabilities with so many decimals: float64 [documents, codes]."""
    return np.round(expit(run.logits.astype(np.float32)).astype(np.float64), places)


def as_saved(candidate: Run, reference: Run, form: str) -> tuple[Run, Run]:
    """Both runs in one of `FORMS`."""
    if form == "float32":
        return candidate, reference
    places = int(form.split()[0])
    return saved(candidate, places), saved(reference, places) if form.endswith("both") else reference


def blurred(stored: tuple[Run, Run], plain: tuple[Run, Run]) -> bool:
    """Did saving change the scores as much as the fault did, so that there is as much of it in the difference?

    Of scores that were not saved as 0 or 1, whose logit nobody knows.
    """
    known = ~(standing(stored[0]) | standing(stored[1]))
    candidate, reference = (run.logits.astype(np.float64) for run in plain)
    changes = [one.logits - two for one, two in zip(stored, (candidate, reference), strict=True)]
    noise = sum(_mean_square(change, known, reference) for change in changes)
    return noise >= _mean_square(candidate - reference, known, reference)


def standing(run: Run) -> np.ndarray:
    """Scores [documents, codes] that stand for a stored 0 or 1."""
    return stand_ins(run.logits, bool(run.manifest.logits_from_probabilities))


def _mean_square(change: np.ndarray, known: np.ndarray, reference: np.ndarray) -> float:
    return (
        float(np.mean((change / np.maximum(reference.std(axis=0), 1e-12))[known] ** 2))
        if known.any()
        else 0.0
    )


def told_of(corpus: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What may be said of every whole case, from logits alone."""
    rows = judged_rows(corpus)
    rows = rows[(rows["part"] == "whole") & (rows["tokens_known"] == 0) & ~rows["held_out"]]
    keys = zip(*(rows[name] for name in KEY[:-1]), strict=True)
    return dict(zip(keys, rows.to_dict("records"), strict=True))


def measured(
    every: Iterable[Pair], told: dict[tuple[Any, ...], dict[str, Any]], forms: Sequence[str] = FORMS
) -> dict[str, list[dict[str, Any]]]:
    """Every answer, by form."""
    found: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
    for pair in every:
        row = told.get(tuple(pair.case[name] for name in KEY[:-1]))
        if row is None or row["drowned"] or pair.gone:
            continue
        plain = pair.known("logits alone")
        for form in forms:
            stored = as_saved(*plain, form)
            lost = form != "float32" and blurred(stored, plain)
            right = pair.right("logits alone", row["right"]) | (NOTHING_LEFT if lost else set())
            answer = asked(replace(pair, candidate=stored[0], reference=stored[1]), "manifests", right)
            found[form].append({**answer, "smaller": bool(row["smaller"]), "blurred": lost})
    return found


def within_a_step(every: Iterable[Pair], told: dict[tuple[Any, ...], dict[str, Any]]) -> Counter[str]:
    """What was planted where both files hold the same decimals and differ, but nowhere by more than a step of them.

    Nothing that is as loud as the rounding beside it, whose name says nothing.
    """
    found: Counter[str] = Counter()
    for pair in every:
        row = told.get(tuple(pair.case[name] for name in KEY[:-1]))
        if row is None or row["drowned"] or pair.gone:
            continue
        runs = pair.candidate, pair.reference
        for places in PLACES if runs[0].logits.shape == runs[1].logits.shape else ():
            apart = np.abs(rounded(runs[0], places) - rounded(runs[1], places)).max()
            found[str(row["truth"])] += bool(0 < np.rint(apart * 10**places) <= 1)
    return +found


def main() -> None:
    """Diagnose every pair in every form."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th pair")
    parser.add_argument("--forms", nargs="*", default=FORMS)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    told = told_of(read(str(options.folder / "corpus.parquet")))
    every = list(pairs(options.folder))
    found = measured(every[:: options.every], told, options.forms)
    result = {
        "every": options.every,
        "cause_model": hashlib.sha256(FILE.read_bytes()).hexdigest(),
        "models": len({row["model"] for rows in found.values() for row in rows}),
        "within_a_step": dict(within_a_step(every, told).most_common()),
        "tables": {form: table(rows) for form, rows in found.items()},
        "wrong": {
            form: [row for row in rows if not row["first"] or row["ruled_out"]]
            for form, rows in found.items()
        },
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(pd.DataFrame(result["tables"]).T.to_string())


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and shares; cases of which saving left too little are counted beside the rest."""
    lost = [row for row in rows if row["blurred"]]
    return {
        **summary([row for row in rows if not row["blurred"]]),
        "blurred": len(lost),
        "blurred_first": float(np.mean([row["first"] for row in lost] or [0.0])),
    }


if __name__ == "__main__":
    main()
