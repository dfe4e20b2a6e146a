"""Throw torch's precision switches, observe what they did, and put them back.

One API only: `fp32_precision` of torch >= 2.9. The older `allow_tf32` and `set_float32_matmul_precision`
write other bits of the same state, and reading one after writing the other raises; so they are neither
read nor written here. Every switch is process-wide: inference runs in a process of its own.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from shifamind_core.errors import PolicyRefused, ShifamindError
from shifamind_core.precision.emulate import Emulation
from shifamind_core.precision.policy import Attention, NumericFlags, PrecisionPolicy

TORCH_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one; `cpu`, `cuda` and `cuda:N` are taken at their word.

    Raises
    ------
    PolicyRefused
        A GPU was asked for that torch does not see.
    ShifamindError
        No such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    asked = re.fullmatch(r"cuda(?::([0-9]{1,9}))?", name)
    if asked is None:
        raise ShifamindError(
            f"There is no device {name!r}. Choose auto, cpu, cuda or cuda:N (N counts from 0)."
        )
    if not torch.cuda.is_available():
        raise PolicyRefused(
            f"The device {name!r} was asked for, but torch sees no GPU here. Choose cpu or auto."
        )
    if asked[1] is None:
        return torch.device("cuda")
    number, seen = int(asked[1]), torch.cuda.device_count()
    if number >= seen:
        raise PolicyRefused(
            f"The device {name!r} was asked for, but torch sees {seen} GPU{'s' * (seen != 1)} here, counted from 0. "
            f"Choose {'cuda:0' if seen == 1 else f'cuda:0 to cuda:{seen - 1}'}, cpu or auto."
        )
    return torch.device("cuda", number)


def refusal(policy: PrecisionPolicy, device: torch.device) -> str | None:
    """Why this device cannot honour the policy, or `None` where it can."""
    if device.type == "cpu":
        if policy.tf32:
            return (
                f"{policy.name} needs an NVIDIA GPU of compute capability 8.0 or later; this device is a CPU. "
                "emulated-tf32 predicts its effect here."
            )
        return None
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8 and (policy.tf32 or "bfloat16" in (policy.weights, policy.autocast)):
        return (
            f"{policy.name} needs compute capability 8.0 (Ampere) or later; "
            f"{torch.cuda.get_device_name(device)} has {major}.{minor}."
        )
    return None


def check_honoured(policy: PrecisionPolicy, device: torch.device) -> None:
    """Refuse now what would be refused later.

    Raises
    ------
    PolicyRefused
        The device cannot honour the policy.
    """
    reason = refusal(policy, device)
    if reason:
        raise PolicyRefused(reason)


_before: list[Callable[[], None]] = []


@contextmanager
def before_computing(call: Callable[[], None]) -> Iterator[None]:
    """Inside, `call` runs before any policy is applied: who shares a device waits for it there, not while reading files."""
    _before.append(call)
    try:
        yield
    finally:
        _before.remove(call)


@contextmanager
def applied(
    policy: PrecisionPolicy, device: torch.device, attention: Attention = "sdpa"
) -> Iterator[NumericFlags]:
    """Inside, torch computes as `policy` asks; yields what was observed there. All is restored on leaving.

    Autocast is not entered here but around each forward pass (`autocast`), as torch advises.

    Raises
    ------
    PolicyRefused
        The device cannot honour the policy, or a matrix product showed that it did not.
    """
    check_honoured(policy, device)
    for call in _before:
        call()
    with ExitStack() as restore:
        if policy.tf32 is not None:
            _set_fp32_precision(restore, "tf32" if policy.tf32 else "ieee")
        if policy.deterministic is not None:
            _set_deterministic(restore, policy.deterministic)
        if policy.cudnn_benchmark is not None:
            _set(restore, torch.backends.cudnn, "benchmark", policy.cudnn_benchmark)
        if policy.math_attention:
            restore.enter_context(sdpa_kernel(SDPBackend.MATH))
        flags = observe_flags(policy, device, attention)
        if policy.tf32 is not None and flags.tf32_measured is not None and flags.tf32_measured != policy.tf32:
            raise PolicyRefused(
                f"{policy.name} asks for TF32 {'on' if policy.tf32 else 'off'}, but a matrix product on "
                f"{torch.cuda.get_device_name(device)} shows the opposite. Is NVIDIA_TF32_OVERRIDE set?"
            )
        if policy.emulate is not None:
            restore.enter_context(Emulation(policy.emulate))
        yield flags


def autocast(policy: PrecisionPolicy, device: torch.device) -> torch.autocast:
    """The autocast context that the policy asks for around a forward pass (disabled where it asks for none)."""
    dtype = TORCH_DTYPES[policy.autocast] if policy.autocast else None
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def observe_flags(policy: PrecisionPolicy, device: torch.device, attention: Attention) -> NumericFlags:
    """Torch's switches as they are now, and whether a matrix product really goes through TF32."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    cpu: Any = torch.backends.mkldnn  # torch's stubs lag behind `fp32_precision`
    tf32 = cuda.matmul.fp32_precision == "tf32"
    backends = {
        "flash": cuda.flash_sdp_enabled(),
        "mem_efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
    }
    return NumericFlags(
        float32_matmul_precision="high" if tf32 else "highest",
        cuda_matmul_allow_tf32=tf32,
        cudnn_allow_tf32="tf32" in (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision),
        cpu_matmul_fp32_precision=cpu.matmul.fp32_precision,
        tf32_measured=measure_tf32(device),
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        cudnn_deterministic=cudnn.deterministic,
        cudnn_benchmark=cudnn.benchmark,
        fp16_reduced_precision_reduction=bool(cuda.matmul.allow_fp16_reduced_precision_reduction),
        bf16_reduced_precision_reduction=bool(cuda.matmul.allow_bf16_reduced_precision_reduction),
        autocast=policy.autocast,
        weights=policy.weights,
        emulated=policy.emulate,
        attention=attention,
        sdpa_backends=tuple(name for name, enabled in backends.items() if enabled),
        cublas_workspace_config=os.environ.get(WORKSPACE),
        nvidia_tf32_override=os.environ.get("NVIDIA_TF32_OVERRIDE"),
        threads=torch.get_num_threads() if device.type == "cpu" else None,
    )


def measure_tf32(device: torch.device) -> bool | None:
    """Whether an FP32 matrix product loses the bit that TF32 does not keep (`None` off CUDA devices).

    1 + 2^-11 times the identity is exact in FP32; TF32 keeps 10 mantissa bits and must round it.
    """
    if device.type != "cuda":
        return None
    with torch.autocast("cuda", enabled=False):
        value: Tensor = torch.full((256, 256), 1 + 2**-11, device=device)
        return bool((value @ torch.eye(256, device=device) != value).any())


def _set(restore: ExitStack, owner: Any, name: str, value: Any) -> None:
    restore.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _set_fp32_precision(restore: ExitStack, value: str) -> None:
    backends: Any = torch.backends
    # On a CPU "tf32" is refused before this point, and oneDNN knows no TF32 mode worth asking for: there it is
    # held to IEEE under every policy.
    _set(restore, backends.mkldnn.matmul, "fp32_precision", "ieee")
    for owner in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        _set(restore, owner, "fp32_precision", value)


def _set_deterministic(restore: ExitStack, on: bool) -> None:
    was = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    restore.callback(torch.use_deterministic_algorithms, was, warn_only=warn_only)
    torch.use_deterministic_algorithms(on)
    _set(restore, torch.backends.cudnn, "deterministic", on)
    if on and WORKSPACE not in os.environ:
        # cuBLAS is deterministic only with a fixed workspace; torch refuses the algorithms without it.
        os.environ[WORKSPACE] = ":4096:8"
        restore.callback(os.environ.pop, WORKSPACE, None)
