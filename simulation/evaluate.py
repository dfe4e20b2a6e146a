"""The whole diagnosis on pairs of held-out models: `python -m simulation.evaluate DIR`.

Reads the `pairs-N.npz` that `simulation.corpus` wrote, makes runs of them, and asks the product's own `diagnose`: from
logits alone, with note lengths, with a ladder measured on the model, and with all that manifests and digests tell; the
last also with other trust in what manifests say. Writes `end_to_end.json`, from which `simulation.fit` takes its table.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from shifamind_core.analysis.rungs import Ladder, Rung
from shifamind_core.diagnosis import matchers
from shifamind_core.diagnosis.classifier.cause_model import FILE
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.diagnosis.evidence import narrower, prior
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from simulation import records
from simulation.judged import calibration_error, drowned, judged_rows, read

KNOWN = ("logits alone", "logits and lengths", "logits and a ladder", "manifests")
TRUSTS = (10, 1000)  # beside the product's own
RUNGS = {"fp64": "fp32", "tf32": "tf32", "fp16 autocast": "fp16-autocast", "bf16 autocast": "bf16-autocast"}
RESULT = Path(__file__).with_name("end_to_end.json")
CORPUS = Path(__file__).with_name("corpus.parquet")
# Names that mean the same thing, where the model has one class for them.
JOINED = {
    "max_length": {"max_length", "truncation_side"},
    "padding": {"padding", "attention_mask_ignored"},
    "calibration_shift": {"calibration_shift", "score_map"},  # a shift or a temperature is a formula, too
}
# What some faults do, in the words of the matchers: a note that got another note's scores stands there twice, and a formula gives
# the scores of some codes from what they were.
OF_MATCHERS = {
    "few notes: other notes": {"document_order", "repeated_documents"},
    "few codes: shifted": {"score_map"},
    "few codes: rescaled": {"score_map"},
}
OF_SOME_NOTES = ("few_documents_changed", "max_length")
KEY = ("model", "fault", "strength", "nuisance", "level", "tokens_known")


@dataclass(frozen=True, eq=False)
class Pair:
    """One planted fault as two runs that know everything, and what may be said of it."""

    model: str
    case: Mapping[str, Any]
    candidate: Run
    reference: Run
    gone: bool = False  # no note that the fault touched is among those kept, or rounding is as loud in them

    def known(self, what: str) -> tuple[Run, Run]:
        """The two runs with no more than that."""
        if what == "manifests":
            return self.candidate, self.reference
        first, second = (
            replace(
                run,
                manifest=Manifest(),
                document_ids=None,
                token_digests=None,
                token_counts=run.token_counts if what == "logits and lengths" else None,
            )
            for run in (self.candidate, self.reference)
        )
        return first, second

    def right(self, what: str, told: frozenset[str]) -> set[str]:
        """Names that may stand first: those that the corpus calls right, and the narrower ones that manifests allow."""
        names = told | OF_MATCHERS.get(self.case["fault"], set())
        if what == "manifests":
            names = names | records.names(self.case)
        return set().union(*(JOINED.get(name, {name}) for name in names))


def pairs(folder: Path) -> Iterator[Pair]:
    """Every case of every bundle."""
    for path in sorted(folder.glob("pairs-*.npz")):
        with np.load(path) as file:
            for model in sorted({key.split("/")[0] for key in file.files}):
                for case in json.loads(str(file[f"{model}/cases"])):
                    yield _pair(model, case, file)


def _pair(model: str, case: Mapping[str, Any], file: Any) -> Pair:
    key = case["key"]
    reference = file[
        f"{model}/{key}-reference" if f"{key}-reference" in case["arrays"] else f"{model}/reference"
    ]
    counts = file[f"{model}/token_counts"]
    other = np.zeros(len(counts), bool)
    if f"{key}-tokens" in case["arrays"]:
        other = np.unpackbits(file[f"{model}/{key}-tokens"], count=len(counts)).astype(bool)
    if "tokenization.special_tokens" in dict(case["fields"]):
        other[:] = True
    ids = np.arange(len(counts), dtype=np.int64)
    theirs, ours = records.manifests({**case, "model": model})
    run = Run(
        reference,
        "reference",
        labels=file[f"{model}/labels"],
        codes=tuple(f"C{i:02d}" for i in range(reference.shape[1])),
        document_ids=ids,
        token_digests=ids + 1,
        token_counts=counts,
        manifest=theirs,
    )
    unlike = case["cause"] == "different_documents"
    candidate = replace(
        run,
        logits=file[f"{model}/{key}"],
        name="candidate",
        labels=None if unlike else run.labels,
        document_ids=None if unlike else ids,
        token_digests=None if unlike else np.where(other, -ids - 1, ids + 1),
        token_counts=None if unlike else counts,
        manifest=ours,
    )
    some = case["cause"] in OF_SOME_NOTES
    return Pair(model, case, candidate, run, gone=(some and not other.any()) or drowned(case))


def ladder_of(model: str, corpus: pd.DataFrame, reference: Run, exact: Mapping[str, np.ndarray]) -> Ladder:
    """What a ladder on this model measures: from the kept logits, or from the sizes in the corpus."""
    plain = corpus[(corpus["model"] == model) & (corpus["part"] == "whole") & (corpus["cause"] == "numerics")]
    spread = float(np.sqrt((reference.logits.std(axis=0) ** 2).mean()))
    rungs = []
    for fault, policy in RUNGS.items():
        size = plain.loc[plain["fault"] == fault, "size"]
        if fault in exact:
            error = np.abs(exact[fault] - reference.logits)
            rms, most = float(np.sqrt((error**2).mean())), float(error.max())
            rungs.append(Rung(policy, rms=rms, max_abs=most))
        elif len(size):
            rungs.append(Rung(policy, rms=float(10 ** size.iloc[0] * spread)))
    return Ladder(tuple(rungs), len(reference.logits), model, "simulated", {})


@contextmanager
def trusting(once_in: int) -> Iterator[None]:
    """Manifests are taken to be wrong once in so many times."""
    share = 1 / once_in
    with (
        patch.object(prior, "TRUST", math.log(once_in)),
        patch.object(narrower, "KEPT", share),
        patch.object(matchers, "TRUSTED", 1 - share),
    ):
        yield


def asked(pair: Pair, what: str, right: set[str], ladder: Ladder | None = None) -> dict[str, Any]:
    """What `diagnose` says of one pair, held against what is right."""
    findings = diagnose(*pair.known(what), ladder=ladder).findings
    ranked = [finding for finding in findings if finding.score > 0]
    names = [finding.cause for finding in ranked]
    level = next((finding.evidence.get("level") for finding in ranked if finding.cause == "numerics"), None)
    return {
        "model": pair.model,
        "fault": pair.case["fault"],
        "nuisance": pair.case["nuisance"],
        "strength": pair.case["strength"],
        "first": names[0] in right,
        "three": bool(right & set(names[:3])),
        "ruled_out": right <= {finding.cause for finding in findings if finding.status == "ruled_out"},
        "numerics_first": names[0] == "numerics" and "numerics" not in right,
        "precision": pair.case["cause"] == "numerics",
        "unknown": any(finding.cause == "unknown" for finding in findings),
        "probability": round(float(ranked[0].probability), 4),
        "said": names[:3],
        "right": sorted(right),
        "level": pair.case["level"],
        "level_said": level,
    }


def main() -> None:
    """Diagnose every pair at every level of knowledge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th pair")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    corpus = read(str(CORPUS))
    every = list(pairs(options.folder))
    exact: dict[str, dict[str, np.ndarray]] = {}
    for pair in every:
        if pair.case["fault"] in RUNGS and not pair.case["recorded"]:
            exact.setdefault(pair.model, {})[pair.case["fault"]] = pair.candidate.logits
    rows = judged_rows(corpus)
    rows = rows[(rows["part"] == "whole") & rows["held_out"]]
    keys = list(zip(*(rows[name] for name in KEY), strict=True))
    told = dict(zip(keys, rows.to_dict("records"), strict=True))
    found: dict[str, list[dict[str, Any]]] = {}
    for pair in every[:: options.every]:
        key = tuple(pair.case[name] for name in KEY[:-1])
        alone, known = told.get((*key, 0.0)), told.get((*key, 1.0))
        if alone is None or alone["drowned"] or pair.gone:
            continue  # of a model whose training collapsed, as much rounding as fault, or nothing of it in the notes kept
        ladder = ladder_of(pair.model, corpus, pair.reference, exact.get(pair.model, {}))
        for what in KNOWN:
            row = alone if what in ("logits alone", "logits and a ladder") else known or alone
            right = pair.right(what, row["right"])
            answer = asked(pair, what, right, ladder if what == "logits and a ladder" else None)
            found.setdefault(what, []).append({**answer, "smaller": bool(row["smaller"])})
            for once_in in TRUSTS if what == "manifests" else ():
                with trusting(once_in):
                    answer = asked(pair, what, right)
                name = f"manifests, wrong once in {once_in}"
                found.setdefault(name, []).append({**answer, "smaller": bool(row["smaller"])})
    result = {
        "every": options.every,
        "models": len({row["model"] for row in found[KNOWN[0]]}),
        "cause_model": hashlib.sha256(FILE.read_bytes()).hexdigest(),
        "tables": {what: summary(rows) for what, rows in found.items()},
        "wrong": {
            what: [row for row in rows if not row["first"] or row["ruled_out"]]
            for what, rows in found.items()
        },
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["tables"], indent=1))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and shares; what can look like rounding from logits alone is counted beside the rest."""
    own = [row for row in rows if not row["smaller"]]
    told = [row for row in own if row["precision"] and row["level_said"] and row["first"]]
    shares, right = np.array([row["probability"] for row in own]), np.array([row["first"] for row in own])
    return {
        "cases": len(own),
        "first": float(np.mean(right)),
        "among_three": float(np.mean([row["three"] for row in own])),
        "calibration_error": calibration_error(shares, right, np.ones(len(own))),
        "numerics_for_another": sum(row["numerics_first"] for row in own),
        "of_others": sum(not row["precision"] for row in own),
        "another_for_numerics": sum(row["precision"] and not row["first"] for row in own),
        "of_numerics": sum(row["precision"] for row in own),
        "ruled_out": sum(row["ruled_out"] for row in rows),
        "unknown": sum(row["unknown"] for row in own),
        "level_right": sum(row["level"] == row["level_said"] for row in told),
        "of_levels": len(told),
        "smaller": len(rows) - len(own),
        "smaller_first": float(np.mean([row["first"] for row in rows if row["smaller"]] or [0.0])),
    }


if __name__ == "__main__":
    main()
