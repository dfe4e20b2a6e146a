"""What emulated precision costs on a CPU: CPU time of a pass over that of plain FP32, in the same run.

The bar is 3. `python -m benchmarks.emulation`.
"""

import statistics
import time

import torch

from shifamind_core.inference.predict import predict
from shifamind_core.precision.apply import applied
from shifamind_core.precision.policy import POLICIES
from simulation.reference_models import ARCHITECTURES, Size, reference_input, reference_model

SIZES = {
    "hidden 128, 4 layers, 128 tokens": Size(notes=16),
    "hidden 384, 6 layers, 512 tokens": Size(384, 6, 12, 5000, 512, 4),
}
EMULATED = ("emulated-tf32", "emulated-fp16", "emulated-bf16")
CPU = torch.device("cpu")
ROUNDS = 5
BAR = 3.0


def main() -> None:
    """Print a line a model and policy; fail where the bar is missed."""
    torch.set_num_threads(1)  # threads that wait for each other spin, and spinning is CPU time
    missed = False
    for label, size in SIZES.items():
        notes = reference_input(size)
        for architecture in ARCHITECTURES:
            model = reference_model(architecture, "plain", size)

            def seconds(policy: str) -> float:
                with applied(POLICIES[policy], CPU):
                    begun = time.process_time()
                    predict(model, notes, POLICIES[policy], CPU, 4)  # noqa: B023 (called in this round only)
                    return time.process_time() - begun

            for policy in EMULATED:
                seconds(policy), seconds("fp32")  # both warm
                # Pairs in turn, so that a busy machine slows both alike.
                ratio = statistics.median(seconds(policy) / seconds("fp32") for _ in range(ROUNDS))
                missed |= ratio > BAR
                print(f"{architecture}, {label}: {policy} costs {ratio:.2f} times FP32")
    if missed:
        raise SystemExit(f"error: an emulation costs more than {BAR:.0f} times FP32.")


if __name__ == "__main__":
    main()
