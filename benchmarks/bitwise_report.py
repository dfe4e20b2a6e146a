"""The section on `bitwise` in docs/gpu-evidence.md, made of docs/bitwise-evidence.json, one column a GPU.

`python -m benchmarks.bitwise_report RECORD …` takes in what `benchmarks.bitwise_gpu` wrote (`bitwise.json`), each under its GPU's
name, and writes both files; without a record it prints the section.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
RECORDS, PAGE = DOCS / "bitwise-evidence.json", DOCS / "gpu-evidence.md"
TITLE = "## Bitwise: the same bits on every machine"
Record = dict[str, Any]
Records = dict[str, Record]


def main() -> None:
    """Take records in and write the section, or print it."""
    parser = argparse.ArgumentParser(description="Write the section on bitwise.")
    parser.add_argument("record", nargs="*", type=Path)
    records: Records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
    files = parser.parse_args().record
    if not files:
        print(section(records))
        return
    for file in files:
        record = json.loads(file.read_text())
        records[record["environment"]["machine"]["gpu"]] = record
    RECORDS.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
    before = PAGE.read_text().split(TITLE)[0].rstrip()
    PAGE.write_text(f"{before}\n\n{section(records)}")


def section(records: Records) -> str:
    """Title, the table of what was held and timed, and the digests side by side."""
    parts = [
        TITLE,
        "What `benchmarks/bitwise_gpu.py` found, GPU by GPU; every number is measured. “–” was not measured there. What makes the "
        "bits equal: [precision.md](precision.md).",
        table(
            ["", *records], [[label, *(shown(read, one) for one in records.values())] for label, read in ROWS]
        ),
    ]
    digests = {gpu: dict(digests_of(record)) for gpu, record in records.items()}
    names = list(dict.fromkeys(name for found in digests.values() for name in found))
    if names:
        parts += [
            "SHA-256 of logits (first 12 digits). Under `bitwise` they are equal everywhere; under other policies they may be, and "
            "where weights are conditioned badly they need not.",
            table(
                ["logits", *records, "equal"],
                [[name, *(found.get(name, "–")[:12] for found in digests.values()), equal(name, digests)] for name in names],
            ),
        ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def shown(read: Callable[[Record], str], record: Record) -> str:
    """A cell; a dash where the record lacks what it reads."""
    try:
        return read(record)
    except KeyError:
        return "–"


def equal(name: str, digests: dict[str, dict[str, str]]) -> str:
    """Whether all GPUs that have it agree; nothing where only one has."""
    found = [one[name] for one in digests.values() if name in one]
    return "" if len(found) < 2 else "yes" if len(set(found)) == 1 else "**no**"


def digests_of(record: Record) -> Iterator[tuple[str, str]]:
    """Every logits' digest by what it is of."""
    if "sha256 of 16 notes" in record.get("speed", {}):
        yield "BERT-base, 512 tokens, bitwise", record["speed"]["sha256 of 16 notes"]
    for architecture, found in record.get("many", {}).items():
        if isinstance(found, dict):
            yield f"{architecture}, 4,096 notes, bitwise", found["sha256"]
    for part in ("side_by_side", "reference_models"):
        for name, found in record.get(part, {}).items():
            digest = found.get("sha256") if isinstance(found, dict) else found
            if isinstance(digest, str):
                yield name.replace(".", ", "), digest


def digests_met(record: Record) -> str:
    """How many checks of recorded digests held."""
    checks = [
        ok for case in record["digests"].values() if isinstance(case, dict) for ok in case.values() if ok in (True, False)
    ]  # fmt: skip
    return f"{sum(checks)} of {len(checks)}"


def products(record: Record) -> str:
    """Products that differ, over every path and operation made of them."""
    found = record["products"]
    return f"{sum(sum(counts.values()) for counts in found['differing'].values()):,} of {found['products']:,}"


def functions(record: Record) -> str:
    """Values of elementary functions and attention that differ."""
    return f"{sum(n for name, n in record['functions'].items() if name != 'seconds' and 'must differ' not in name):,}"


def mutation(name: str) -> Callable[[Record], str]:
    return lambda record: f"{record['mutations'][name]:,}"


def changed_functions(record: Record) -> str:
    """What a library's exp was seen to change."""
    return ", ".join(record["mutations"]["functions that a library's exp changes"]) or "none"


def fingerprints(record: Record) -> str:
    """Of the demo's first 32 notes, CPU and GPU in three batch sizes."""
    found = {one["fingerprint"] for name, one in record["demo"].items() if "32 notes" in name}
    return f"equal: {found.pop()[:12]}" if len(found) == 1 else "**not equal**"


def many(record: Record) -> str:
    """Logits of 4,096 notes that differ between paths, or from the CPU."""
    cases = [case for case in record["many"].values() if isinstance(case, dict)]
    return f"{sum(sum(case['differing'].values()) for case in cases):,} of {sum(case['logits'] for case in cases):,}"


def speed(name: str) -> Callable[[Record], str]:
    """Notes a second, the share of FP32's, and memory."""

    def read(record: Record) -> str:
        found, fp32 = record["speed"][name], record["speed"]["fp32"]["notes_per_second"]
        return f"{found['notes_per_second']:,.0f} ({found['notes_per_second'] / fp32:.2f}); {found['peak_gib']:.1f}"

    return read


def from_the_h200(policy: str) -> Callable[[Record], str]:
    """How far ill-conditioned models' logits are from those that the tests keep of an H200."""

    def read(record: Record) -> str:
        found = record["reference_models"]
        return f"{max(found[f'{name}.ill.{policy}']['from the H200'] for name in ('cls_fusion', 'concept_attention')):.1e}"

    return read


def cpu(record: Record) -> str:
    """Notes a second on the CPU beside the GPU."""
    found = record["cpu"]
    bitwise, fp32 = (found[name]["notes_per_second"] for name in ("bitwise", "fp32"))
    return f"{bitwise:.2f} against {fp32:.2f} (1/{fp32 / bitwise:.1f}), {found['threads']} threads"


ROWS: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("torch", lambda record: record["environment"]["machine"]["torch"]),
    ("driver", lambda record: record["environment"]["machine"]["driver"]),
    ("implementation chosen", lambda record: record["environment"]["chosen"]),
    ("recorded digests met: CPU, and each path at batch 16, 5, 1", digests_met),
    ("hostile products that differ from the CPU's", products),
    ("values of functions and attention that differ from the CPU's", functions),
    ("4,096 notes, two models: logits that differ between paths, or from the CPU", many),
    ("BERT-base, 512 tokens: logits that differ from the CPU's", lambda record: f"{record['cpu']['gpu differs from cpu in']:,} of {record['cpu']['logits compared']:,}"),
    ("demo's fingerprint on CPU and GPU, batch 16, 7, 1", fingerprints),
    ("mutation: FP64 values that a contraction changes", mutation("exp in FP64, contraction True: numbers that differ")),
    ("mutation: functions whose digest a library's exp changes", changed_functions),
    ("ill-conditioned small models, FP32: largest difference from an H200's logits", from_the_h200("fp32")),
    ("the same, TF32", from_the_h200("tf32")),
    ("notes a second, FP32 (share of FP32); GiB", speed("fp32")),
    ("the same, bitwise from FP64 products", speed("fp64")),
    ("the same, bitwise from INT8 products", speed("int8")),
    ("the same, bitwise in plain PyTorch", speed("plain")),
    ("notes a second on the CPU, bitwise against FP32", cpu),
)  # fmt: skip

if __name__ == "__main__":
    main()
