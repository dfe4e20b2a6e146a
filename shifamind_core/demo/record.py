"""Record the demo's reference runs on a GPU: `python -m shifamind_core.demo.record RUN_DIR`.

Each is what `python -m shifamind_core predict RUN_DIR --split SPLIT --policy POLICY --lowercase CASING` writes,
without the concept scores (half the file, and no reader of a reference needs them).
"""

import argparse
from dataclasses import replace
from pathlib import Path

from shifamind_core.runs.run_file import write_run_file
from shifamind_core.specs import Casing, PredictSpec
from shifamind_core.tasks import run_predict

# name -> (policy, casing); cased is what transformers 5.0 to 5.2 do with a vocabulary that comes alone
REFERENCES: dict[str, tuple[str, Casing]] = {
    "fp32": ("fp32", "true"),
    "tf32": ("tf32", "true"),
    "bf16-autocast": ("bf16-autocast", "true"),
    "cased": ("fp32", "false"),
}


def record(run_directory: Path, folder: Path, machine: str, device: str) -> None:
    """Write `MACHINE-NAME-SPLIT.safetensors` for every reference and both splits."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (policy, casing) in REFERENCES.items():
        for split in ("test", "val"):
            spec = PredictSpec(
                str(run_directory), split=split, policy=policy, lowercase=casing, device=device
            )
            run = run_predict(spec, cache=None).run
            write_run_file(
                replace(run, concept_scores=None), folder / f"{machine}-{name}-{split}.safetensors"
            )
            print(
                f"{machine}-{name}-{split}: {run.documents} notes, {run.manifest.duration_seconds} s",
                flush=True,
            )


def main() -> None:
    """Parse the command line and record."""
    parser = argparse.ArgumentParser(description="Record the demo's reference runs.")
    parser.add_argument("run_directory", type=Path, metavar="RUN_DIR")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: RUN_DIR/references")
    parser.add_argument("--machine", default="h200")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    record(
        options.run_directory,
        options.output or options.run_directory / "references",
        options.machine,
        options.device,
    )


if __name__ == "__main__":
    main()
