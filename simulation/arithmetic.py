"""One model under other arithmetic: emulated, so that any machine plants the same rounding, or as a GPU does it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from shifamind_core.precision.apply import applied, refusal
from shifamind_core.precision.emulate import Emulation
from shifamind_core.precision.policy import POLICIES
from simulation.fleet import Subject, built, configuration, encoder_of, forward

Level = Literal["fp32", "tf32", "fp16", "bf16"]
OTHER_BATCH = 48  # notes
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
FORMATS: dict[str, Any] = {"tf32": "tf32", "fp16": "float16", "bf16": "bfloat16"}
REAL = {
    "tf32": ("tf32", "tf32"),
    "fp16-autocast": ("fp16", "fp16-autocast"),
    "bf16-autocast": ("bf16", "bf16-autocast"),
    "fp16": ("fp16", "fp16"),
    "bf16": ("bf16", "bf16"),
}


@dataclass(frozen=True)
class Arithmetic:
    """A name, the level it stands for, and how logits come about; keywords are those of `forward`."""

    name: str
    level: Level
    run: Callable[..., np.ndarray]


def emulated(level: Level) -> Callable[..., np.ndarray]:
    """Matrix products (and, in half precision, their outputs) rounded as that level's autocast does."""

    def run(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
        if level == "fp32":
            return forward(subject, model, **keywords)
        with Emulation(FORMATS[level]):
            return forward(subject, model, **keywords)

    return run


def rounded_weights(level: Level) -> Callable[..., np.ndarray]:
    """A checkpoint saved in half precision, computed in FP32."""

    def run(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
        return forward(subject, _rounded(model or subject.model, level), **keywords)

    return run


def everything(level: Level) -> Callable[..., np.ndarray]:
    """Weights and activations in half precision: every module's output is rounded as well."""

    def run(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
        model = _rounded(model or subject.model, level)

        def rounding(module: nn.Module, args: Any, output: Any) -> Any:
            return output.to(DTYPES[level]).float() if isinstance(output, torch.Tensor) else output

        for module in model.modules():
            if not list(module.children()):
                module.register_forward_hook(rounding)
        with Emulation(FORMATS[level]):
            return forward(subject, model, **keywords)

    return run


def wide_head(level: Level) -> Callable[..., np.ndarray]:
    """Half precision under a last layer that stays wide: noise without a grid."""

    def run(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
        model = copy.deepcopy(model or subject.model)
        owner, _, name = subject.head.rpartition(".")
        setattr(model.get_submodule(owner), name, _Wide(model.get_submodule(subject.head)))  # type: ignore[arg-type]
        with Emulation(FORMATS[level]):
            return forward(subject, model, **keywords)

    return run


class _Wide(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = copy.deepcopy(linear).double()  # the emulation rounds no FP64 product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.double()).float()


def _rounded(model: nn.Module, level: Level) -> nn.Module:
    model = copy.deepcopy(model)
    for weight in model.parameters():
        weight.data = weight.data.to(DTYPES[level]).float()
    return model


def fp64(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
    """The referee."""
    return forward(subject, copy.deepcopy(model or subject.model).double(), **keywords)


def eager(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
    """The other implementation of attention."""
    model = model or subject.model
    config = getattr(encoder_of(model), "config", None) or configuration(subject.plan)
    other = built(subject.plan, config, "eager").to(subject.device)
    other.load_state_dict(model.state_dict())
    return forward(subject, other.eval().requires_grad_(False), **keywords)


def other_batch(size: int) -> Callable[..., np.ndarray]:
    def run(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
        return forward(subject, model, batch=size, **keywords)

    return run


PLAIN = Arithmetic("fp32", "fp32", emulated("fp32"))
EMULATED: tuple[Arithmetic, ...] = (
    Arithmetic("fp64", "fp32", fp64),
    Arithmetic(f"fp32, batch of {OTHER_BATCH}", "fp32", other_batch(OTHER_BATCH)),
    Arithmetic("fp32, eager", "fp32", eager),
    Arithmetic("tf32", "tf32", emulated("tf32")),
    Arithmetic("fp16 autocast", "fp16", emulated("fp16")),
    Arithmetic("bf16 autocast", "bf16", emulated("bf16")),
    Arithmetic("fp16 weights", "fp16", rounded_weights("fp16")),
    Arithmetic("bf16 weights", "bf16", rounded_weights("bf16")),
    Arithmetic("fp16 throughout", "fp16", everything("fp16")),
    Arithmetic("bf16 throughout", "bf16", everything("bf16")),
    Arithmetic("bf16, head in fp32", "bf16", wide_head("bf16")),
    Arithmetic("fp16, head in fp32", "fp16", wide_head("fp16")),
)


def recorded(subject: Subject) -> list[Arithmetic]:
    """What this machine's own arithmetic does: for testing alone, never for fitting."""

    def run_of(policy_name: str) -> Callable[..., np.ndarray]:
        policy = POLICIES[policy_name]

        def run(subject: Subject, model: nn.Module | None = None, **keywords: Any) -> np.ndarray:
            model = copy.deepcopy(model or subject.model)
            if policy.weights == "bfloat16":
                model = model.bfloat16()
            elif policy.weights == "float16":
                model = model.half()
            autocast = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(policy.autocast or "")
            with applied(policy, subject.device):
                return forward(subject, model, autocast=autocast, **keywords)

        return run

    return [
        Arithmetic(f"{name}, recorded", level, run_of(policy))  # type: ignore[arg-type]
        for name, (level, policy) in REAL.items()
        if subject.device.type == "cuda" and refusal(POLICIES[policy], subject.device) is None
    ]
