"""How long a replay takes on a GPU: `python benchmarks/replay_gpu.py --output DIR`.

Needs torch, transformers and this package only. Trains a BERT-base-sized checkpoint for a minute (`gpu_evidence.train`), plants
a lone change, a pair and nothing, and searches for each among all interventions over 256 notes. Writes `replay.json` after
every search: seconds, verdict and the interventions found. `--tiny` does all of it on a small model and a CPU.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_evidence import DEVICE, environment, train
from shifamind_core.inference.pipeline import Setting
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.replay.task import Setup
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from shifamind_core.specs import ReplaySpec
from simulation.reference_models import Size

PLANTED = {
    "lowercase=false": Tokenization(lowercase=False),
    "lowercase=false + max_length=384": Tokenization(lowercase=False, max_length=384),
    "nothing": Tokenization(lowercase=True),
}


def main() -> None:
    """Parse the command line, train, plant, search."""
    parser = argparse.ArgumentParser(description="Time replays on a GPU.")
    parser.add_argument("--output", type=Path, default=Path("replay-gpu"), metavar="DIR")
    parser.add_argument("--architecture", default="cls_fusion", choices=("cls_fusion", "concept_attention"))
    parser.add_argument("--notes", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=150, help="begin no further search after this long")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--tiny", action="store_true", help="a small model: for a CPU")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    size = Size(hidden=64, heads=8, layers=4, tokens=128) if options.tiny else None
    folder = options.output.resolve() / f"run_{options.architecture}"
    record: dict[str, Any] = {
        "training": train(options.architecture, folder, size, options.workers),
        "environment": environment() if not options.tiny else {},
        "notes": options.notes,
        "searches": [],
    }
    record["preparation_seconds"] = round(time.perf_counter() - begun, 1)
    for name, tokenization in PLANTED.items():
        if time.perf_counter() - begun > options.seconds:
            break
        record["searches"].append(search(folder, name, tokenization, options.notes))
        print(json.dumps(record["searches"][-1]), flush=True)
        (options.output / "replay.json").write_text(json.dumps(record, indent=1))


def search(folder: Path, name: str, tokenization: Tokenization, notes: int) -> dict[str, Any]:
    """One search by a process that has computed nothing yet, against a reference without a manifest."""
    setup = Setup(ReplaySpec(str(folder), device=DEVICE.type, notes=notes), None)
    setup.base = replace(setup.base, tokenization=replace(setup.base.tokenization, lowercase=True))
    reference = setup.own.score("test", Setting(tokenization=tokenization, device=DEVICE.type)).run
    begun = time.perf_counter()
    result = setup.reproduce(
        Run(
            reference.logits,
            "reference",
            reference.codes,
            reference.labels,
            reference.document_ids,
            manifest=Manifest(),
        )
    )
    return {
        "planted": name,
        "seconds": round(time.perf_counter() - begun, 1),
        "verdict": result["verdict"],
        "best": result["best"],
        "trials": len(result["trials"]),
        "sentence": result["sentence"],
    }


if __name__ == "__main__":
    main()
