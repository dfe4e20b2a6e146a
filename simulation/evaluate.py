"""The whole diagnosis on pairs of held-out models: `python -m simulation.evaluate DIR`.

Reads the `pairs-N.npz` that `simulation.corpus` wrote, makes runs of them, and asks the product's own `diagnose`: from
logits alone, with note lengths, and with all that manifests and digests tell. Prints a table and every case that is wrong.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.precision.environment import Environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import CheckpointRecord, Manifest, PolicyRecord, TokenizationRecord
from shifamind_core.runs.run import Run

KNOWN = ("logits alone", "logits and lengths", "manifests")
# The name that manifests allow, by the field in which the runs differ.
NARROWER = {
    "tokenization.lowercase": {"tokenizer_casing"},
    "tokenization.max_length": {"max_length"},
    "tokenization.truncation_side": {"truncation_side"},
    "tokenization.padding": {"padding"},
    "tokenization.special_tokens": {"input_changed"},
    "checkpoint.weights_digest": {"other_checkpoint", "weights_changed"},
}
# Names that mean the same thing, where the model has one class for them.
JOINED = {
    "max_length": {"max_length", "truncation_side"},
    "padding": {"padding", "attention_mask_ignored"},
}
POLICY_OF = {"fp32": "fp32", "tf32": "tf32", "fp16": "fp16-autocast", "bf16": "bf16-autocast"}


@dataclass(frozen=True, eq=False)
class Pair:
    """One planted fault as two runs that know everything, and what may be said of it."""

    model: str
    case: Mapping[str, Any]
    candidate: Run
    reference: Run

    def known(self, what: str) -> "Pair":
        """With no more than that."""
        if what == "manifests":
            return self
        runs = [
            replace(
                run,
                manifest=Manifest(),
                document_ids=None,
                token_digests=None,
                token_counts=run.token_counts if what == "logits and lengths" else None,
            )
            for run in (self.candidate, self.reference)
        ]
        return replace(self, candidate=runs[0], reference=runs[1])

    def right(self, what: str) -> set[str]:
        """Names that may stand first."""
        cause = self.case["alone" if what == "logits alone" else "cause"]
        names = {cause, *filter(None, self.case["twins"].split(","))}
        if what == "manifests":
            for name, _ in self.case["fields"]:
                names |= NARROWER.get(name, set())
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
    ids = np.arange(len(counts), dtype=np.int64)
    manifest = _manifest(case["architecture"])
    run = Run(
        reference,
        "reference",
        labels=file[f"{model}/labels"],
        codes=tuple(f"C{i:02d}" for i in range(reference.shape[1])),
        document_ids=ids,
        token_digests=ids + 1,
        token_counts=counts,
        manifest=manifest,
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
        manifest=_with_fields(manifest, case),
    )
    return Pair(model, case, candidate, run)


def _manifest(architecture: str) -> Manifest:
    known = architecture if architecture in ("cls_fusion", "concept_attention") else None
    return Manifest(
        checkpoint=CheckpointRecord(weights_digest="a" * 64, architecture=known),  # type: ignore[arg-type]
        tokenization=TokenizationRecord(
            lowercase=True, max_length=128, padding="max_length", truncation_side="right", special_tokens=True
        ),
        policy=PolicyRecord.of(POLICIES["fp32"]),
        environment=Environment(device="cpu"),
        batch_size=50,
    )


def _with_fields(manifest: Manifest, case: Mapping[str, Any]) -> Manifest:
    """The candidate's manifest: it says what was done, and the precision that came on top."""
    policy = POLICY_OF.get(case["level"] or case["nuisance"], "fp32")
    manifest = replace(manifest, policy=PolicyRecord.of(POLICIES[policy]))
    for name, value in case["fields"]:
        room, field = name.split(".")
        if room != "policy":
            manifest = replace(manifest, **{room: replace(getattr(manifest, room), **{field: value})})
    return manifest


def main() -> None:
    """Diagnose every pair at every level of knowledge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th pair")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {what: [] for what in KNOWN}
    for pair in list(pairs(options.folder))[:: options.every]:
        for what in KNOWN:
            seen, right = pair.known(what), pair.right(what)
            findings = diagnose(seen.candidate, seen.reference).findings
            ranked = [finding.cause for finding in findings if finding.score > 0]
            out = {finding.cause for finding in findings if finding.status == "ruled_out"}
            case = pair.case
            row = {
                "first": ranked[0] in right,
                "three": bool(right & set(ranked[:3])),
                "ruled_out": bool(right <= out),
                "drowned": bool(case["nuisance"]) and case["loudest"] <= case["floor"] + 0.15,
                "numerics": ranked[0] == "numerics" and "numerics" not in right,
                "told": f"{pair.model}: {case['fault']} ({case['nuisance']}), {case['strength']:g}, {10 ** case['loudest']:.2g}: "
                f"{', '.join(ranked[:3])}; right {', '.join(sorted(right))}",
            }
            found[what].append(row)
    for what, rows in found.items():
        told = [row for row in rows if not row["drowned"]]
        print(
            f"{what}: {len(told)} cases, first {_share(told, 'first')}, among three {_share(told, 'three')}, "
            f"numerics for another {sum(r['numerics'] for r in told)}, truth ruled out {sum(r['ruled_out'] for r in rows)}"
        )
    for what, rows in found.items():
        for row in rows:
            if not row["first"]:
                print(f"  {what}; {row['told']}")


def _share(rows: list[dict[str, Any]], key: str) -> str:
    return f"{np.mean([row[key] for row in rows]):.1%}"


if __name__ == "__main__":
    main()
