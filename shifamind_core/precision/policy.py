"""Precision policies as plain data: what is asked for, and what was observed. No torch here."""

from dataclasses import dataclass
from typing import Literal

from shifamind_core.errors import ShifamindError

DType = Literal["float64", "float32", "float16", "bfloat16"]
MatmulPrecision = Literal["highest", "high", "medium"]
Attention = Literal["sdpa", "eager"]


@dataclass(frozen=True)
class PrecisionPolicy:
    """What is asked of torch. A field that is `None` is left as it is found.

    `tf32` governs cuBLAS matrix products and cuDNN alike; `autocast` wraps the forward pass, with FP32
    weights; `weights` is the dtype the model is cast to. `emulate` rounds the inputs of matrix products
    to that format on any device (see `precision.emulate`); `bitwise` runs the model in operations that
    give the same bits on every machine (see `precision.bitwise`).
    """

    name: str
    description: str
    weights: DType = "float32"
    autocast: DType | None = None
    tf32: bool | None = False
    deterministic: bool | None = None
    cudnn_benchmark: bool | None = None
    math_attention: bool = False
    fixed_padding: bool = False
    emulate: Literal["tf32", "bfloat16", "float16"] | None = None
    bitwise: bool = False


@dataclass(frozen=True)
class NumericFlags:
    """What was observed inside `applied(policy)`, after every switch was thrown.

    `tf32_measured` is no flag: it is the outcome of a small matrix product whose exact answer differs
    under TF32 (`None` off CUDA devices). A flag may lie (environment overrides); a product does not.
    """

    float32_matmul_precision: str | None = None
    cuda_matmul_allow_tf32: bool | None = None
    cudnn_allow_tf32: bool | None = None
    cpu_matmul_fp32_precision: str | None = None
    tf32_measured: bool | None = None
    deterministic_algorithms: bool | None = None
    cudnn_deterministic: bool | None = None
    cudnn_benchmark: bool | None = None
    fp16_reduced_precision_reduction: bool | None = None
    bf16_reduced_precision_reduction: bool | None = None
    autocast: str | None = None
    weights: str | None = None
    emulated: str | None = None
    attention: str | None = None
    sdpa_backends: tuple[str, ...] | None = None
    cublas_workspace_config: str | None = None
    nvidia_tf32_override: str | None = None
    threads: int | None = None


POLICIES: dict[str, PrecisionPolicy] = {
    policy.name: policy
    for policy in (
        PrecisionPolicy("default", "Touch nothing; record what is observed.", tf32=None),
        PrecisionPolicy("fp32", "FP32 throughout, TF32 off: the protocol's experiment 1."),
        PrecisionPolicy("tf32", "FP32 weights, matrix products through TF32 tensor cores.", tf32=True),
        PrecisionPolicy("bf16-autocast", "FP32 weights, matrix products in BF16.", autocast="bfloat16"),
        PrecisionPolicy("fp16-autocast", "FP32 weights, matrix products in FP16.", autocast="float16"),
        PrecisionPolicy("bf16", "Weights and activations in BF16.", weights="bfloat16"),
        PrecisionPolicy("fp16", "Weights and activations in FP16.", weights="float16"),
        PrecisionPolicy(
            "fp64", "FP64 throughout: the referee that any two machines share.", weights="float64"
        ),
        PrecisionPolicy(
            "portable",
            "FP32 highest, deterministic algorithms, math attention, fixed padding and batch.",
            deterministic=True,
            cudnn_benchmark=False,
            math_attention=True,
            fixed_padding=True,
        ),
        PrecisionPolicy(
            "bitwise",
            "The same bits on every machine: exact products, one rounding each; FP32 in and out.",
            bitwise=True,
        ),
        PrecisionPolicy("emulated-tf32", "What TF32 tensor cores would do, predicted here.", emulate="tf32"),
        PrecisionPolicy("emulated-bf16", "What BF16 autocast would do, predicted here.", emulate="bfloat16"),
        PrecisionPolicy("emulated-fp16", "What FP16 autocast would do, predicted here.", emulate="float16"),
    )
}


def policy_named(name: str) -> PrecisionPolicy:
    """The policy of that name.

    Raises
    ------
    ShifamindError
        No such policy; the message lists those there are.
    """
    if name not in POLICIES:
        raise ShifamindError(f"There is no precision policy {name!r}. Choose one of: {', '.join(POLICIES)}.")
    return POLICIES[name]


# Half the distance from 1 to the next number: 2^-p for p significant bits (IEEE 754; NVIDIA's TF32 keeps 11 of them).
UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "tf32": 2.0**-11,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}


def unit_roundoff(policy: PrecisionPolicy, flags: NumericFlags | None = None) -> float:
    """Of the coarsest format that a matrix product of this policy uses; `flags` say whether TF32 was really on.

    >>> [unit_roundoff(POLICIES[name]) for name in ("fp32", "tf32", "bf16-autocast")] == [2**-24, 2**-11, 2**-8]
    True
    """
    formats: list[str] = [policy.weights, *filter(None, (policy.autocast, policy.emulate))]
    tf32 = flags.tf32_measured if flags is not None and flags.tf32_measured is not None else policy.tf32
    if tf32 and policy.weights == "float32":
        formats.append("tf32")
    return max(UNIT_ROUNDOFF[name] for name in formats)
