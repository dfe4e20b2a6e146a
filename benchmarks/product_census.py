"""Which matrix products go through TF32 on this GPU: asked of each product, in a model and over a grid of shapes.

A product of inputs that were rounded to TF32 beforehand gives the same bits if the hardware would have rounded them anyway;
and its error against FP64 is a thousand times FP32's. Both are asked of every product, so that which ones the emulation has
to round is a measurement (`precision.emulate`).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from shifamind_core.precision.apply import applied
from shifamind_core.precision.emulate import PRODUCTS, round_tf32
from shifamind_core.precision.policy import POLICIES

# Relative rms error of a product: FP32 stays below it and TF32 above, by a factor of ten each.
BETWEEN = 3e-5


class Census(TorchFunctionMode):
    """Inside, every product of FP32 tensors is also computed in FP64 and from rounded inputs; one row a kind of call."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        real = func(*args, **kwargs)
        if func is F.linear or func in PRODUCTS or func is F.scaled_dot_product_attention:
            self._count(func, args, kwargs, real)
        return real

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], real: Tensor) -> None:
        floats = [x for x in args if isinstance(x, Tensor) and x.is_floating_point()]
        if any(x.dtype != torch.float32 for x in floats):
            return

        def again(change: Callable[[Tensor], Tensor]) -> Tensor:
            return func(
                *(change(x) if isinstance(x, Tensor) and x.is_floating_point() else x for x in args),
                **{
                    k: change(x) if isinstance(x, Tensor) and x.is_floating_point() else x
                    for k, x in kwargs.items()
                },
            )

        exact = again(lambda x: x.double())
        factors = {id(x) for x in floats[: 3 if func is F.scaled_dot_product_attention else 2]}
        rounded = again(lambda x: round_tf32(x) if id(x) in factors else x)
        error = float((real.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())
        name = (
            "linear"
            if func is F.linear
            else "attention"
            if func is F.scaled_dot_product_attention
            else "matmul"
        )
        row = self.rows.setdefault(
            (name, *(tuple(x.shape) for x in floats[:2])),
            {"product": name, "shapes": [list(x.shape) for x in floats[:2]], "calls": 0, "tf32": 0, "same_bits": 0,
             "relative_error": 0.0},
        )  # fmt: skip
        row["calls"] += 1
        row["tf32"] += error > BETWEEN
        row["same_bits"] += bool(torch.equal(real, rounded))
        row["relative_error"] = max(row["relative_error"], error)


def census(model: nn.Module, ids: Tensor, mask: Tensor) -> list[dict[str, Any]]:
    """Of every product in a forward pass under the tf32 policy: how many calls of this shape went through TF32."""
    with torch.inference_mode(), applied(POLICIES["tf32"], ids.device), Census() as found:
        model(ids, mask)
    return list(found.rows.values())


def grid(device: torch.device) -> list[dict[str, Any]]:
    """Linear layers by rows × inputs × outputs, batched products by batch × rows × inner × columns."""
    torch.manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    rows = []
    with torch.inference_mode(), applied(POLICIES["tf32"], device):
        for count in (1, 2, 3, 4, 8, 16, 50, 113, 512, 8192):
            for inputs, outputs in (
                (64, 50),
                (128, 50),
                (128, 128),
                (177, 50),
                (881, 50),
                (768, 113),
                (768, 768),
                (3072, 768),
            ):
                with Census() as found:
                    F.linear(normal(count, inputs), normal(outputs, inputs))
                rows += found.rows.values()
        for batch in (1, 8, 128):
            for tokens in (16, 128, 512):
                for size in (8, 16, 32, 64, 96):
                    for concepts in (113, 128):
                        states, keys = normal(batch, 8, tokens, size), normal(8, concepts, size)
                        with Census() as found:
                            weights = states @ keys.transpose(-1, -2)
                            weights @ keys
                        rows += found.rows.values()
    return rows
