"""Layer profiles: the same notes through two settings, compared after every module.

Hooks only write down what passes; they undo themselves in `finally`. What is kept is one batch of activations of
either setting (about 25 MB a note, layer and setting at BERT-base size, 512 tokens and FP32: 0.9 GB for one note in FP32
against FP64); everything else is a handful of sums in float64.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shifamind_core.errors import PolicyRefused
from shifamind_core.inference.predict import batch, cast
from shifamind_core.inference.tokenization import ModelInput, Progress
from shifamind_core.precision.apply import applied, autocast
from shifamind_core.precision.policy import Attention, NumericFlags, PrecisionPolicy, unit_roundoff
from shifamind_core.runs.layer_profile import LayerProfile


@dataclass(frozen=True)
class LayerSetting:
    """One side of a comparison."""

    policy: PrecisionPolicy
    attention: Attention = "sdpa"

    @property
    def name(self) -> str:
        """For people.

        >>> from shifamind_core.precision.policy import POLICIES
        >>> LayerSetting(POLICIES["fp32"], "eager").name
        'fp32 · eager'
        """
        return self.policy.name if self.attention == "sdpa" else f"{self.policy.name} · {self.attention}"


@dataclass(frozen=True, eq=False)
class Call:
    """What went into a module and what came out, as it passed."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor


@contextmanager
def recording(model: nn.Module) -> Iterator[list[Call]]:
    """Inside, every call of every module within `model` is written down; the hooks are gone on leaving, error or not.

    Left out are modules that change nothing (dropout in evaluation mode) and those that return no tensor. Hooks that
    are on the model already run first: what they change is what is recorded.
    """
    calls: list[Call] = []

    def hook(name: str) -> Callable[..., None]:
        def write_down(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            tensor = _tensor_of(output)
            if tensor is not None:
                calls.append(Call(name, module, args, kwargs, tensor))

        return write_down

    handles = []
    try:
        for name, module in model.named_modules():
            if module is not model and not _changes_nothing(module):
                handles.append(module.register_forward_hook(hook(name), with_kwargs=True))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def profile_layers(
    model: Callable[[Attention], nn.Module],
    notes: ModelInput,
    candidate: LayerSetting,
    reference: LayerSetting,
    device: torch.device,
    batch_size: int = 1,
    progress: Progress | None = None,
) -> LayerProfile:
    """Both settings on the same notes, batch by batch, and how far apart they are after each module.

    Parameters
    ----------
    model : callable
        Gives a model in FP32 for an attention implementation (`Pipeline.model`). Two different models are two different
        candidates: that is how a planted fault is found.
    batch_size : int
        Notes whose activations are kept at once.
    """
    if candidate.policy.bitwise or reference.policy.bitwise:
        raise PolicyRefused(
            "bitwise runs no modules, so it has no layers to compare. Choose fp64 as the referee."
        )
    sides = [
        _Side(setting, cast(model(setting.attention), setting.policy, device), device)
        for setting in (candidate, reference)
    ]
    sums: dict[tuple[str, int], _Sums] = {}
    peak = 0
    with torch.inference_mode():
        for start in range(0, len(notes), batch_size):
            ids, mask = batch(notes, start, start + batch_size, device)
            traces = [side.run(ids, mask) for side in sides]
            peak = max(peak, _bytes(call for trace in traces for call in trace))
            _compare(traces[0], traces[1], sides[1], sums)
            if progress:
                progress("Comparing layers", min(start + batch_size, len(notes)), len(notes))
    roundoffs = [unit_roundoff(side.setting.policy, side.flags) for side in sides]
    return _profile(candidate.name, reference.name, sums, roundoffs, len(notes), peak)


@dataclass
class _Side:
    """A setting, its model, and the flags that were observed when it ran."""

    setting: LayerSetting
    model: nn.Module
    device: torch.device
    flags: NumericFlags | None = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        with (
            applied(self.setting.policy, self.device, self.setting.attention) as flags,
            autocast(self.setting.policy, self.device),
        ):
            self.flags = flags
            yield

    def run(self, ids: Tensor, mask: Tensor) -> list[Call]:
        with self.applied(), recording(self.model) as calls:
            self.model(ids, mask)
        return calls


@dataclass
class _Sums:
    """Streamed sums of one module, in float64."""

    kind: str
    moments: np.ndarray = field(default_factory=lambda: np.zeros(3))  # count, mean, sum of squared deviations
    reference_moments: np.ndarray = field(default_factory=lambda: np.zeros(3))
    absmax: float = 0.0
    non_finite: int = 0
    # Squared errors and squares of the reference, of output, input, inherited and own part.
    output: np.ndarray = field(default_factory=lambda: np.zeros(2))
    input: np.ndarray = field(default_factory=lambda: np.zeros(2))
    inherited: np.ndarray = field(default_factory=lambda: np.zeros(2))
    own: np.ndarray = field(default_factory=lambda: np.zeros(2))


def _compare(
    candidate: list[Call], reference: list[Call], side: _Side, sums: dict[tuple[str, int], _Sums]
) -> None:
    """Add one batch to the sums; the reference's modules run again on the candidate's inputs."""
    partners = dict(_numbered(candidate))
    spared = _handed_on(candidate) & _handed_on(reference)
    with side.applied():
        for key, call in _numbered(reference):
            partner = partners.get(key)
            if partner is None or partner.output.shape != call.output.shape:
                continue
            if key not in sums:
                sums[key] = _Sums(type(call.module).__name__)
            replay = partner.output if key in spared else _replay(call, partner)
            with torch.autocast(side.device.type, enabled=False):
                _add(sums[key], partner, call, replay)


def _handed_on(calls: list[Call]) -> set[tuple[str, int]]:
    """Calls of large blocks that return what a module inside them returned: they add nothing of their own, and the modules
    inside are looked at anyway. Running them again is spared."""
    returned: set[int] = set()
    found = set()
    for key, call in _numbered(calls):
        if id(call.output) in returned and _height(call.module) > 1:
            found.add(key)
        returned.add(id(call.output))
    return found


def _replay(reference: Call, candidate: Call) -> Tensor:
    """The reference's module on the candidate's inputs."""
    pairs = _activations(reference, candidate)
    if not pairs:
        return reference.output
    swap = {id(theirs): ours.to(theirs) for theirs, ours in pairs}
    args = tuple(swap.get(id(value), value) for value in reference.args)
    kwargs = {name: swap.get(id(value), value) for name, value in reference.kwargs.items()}
    output = _tensor_of(reference.module(*args, **kwargs))
    assert output is not None  # it returned a tensor the first time
    return output


def _activations(reference: Call, candidate: Call) -> list[tuple[Tensor, Tensor]]:
    """Inputs that carry hidden states, in pairs. Masks, which have four axes, stay each side's own."""
    theirs = [*reference.args, *reference.kwargs.values()]
    ours = [*candidate.args, *candidate.kwargs.values()]
    return [
        (a, b)
        for a, b in zip(theirs, ours, strict=False)
        if isinstance(a, Tensor)
        and isinstance(b, Tensor)
        and a.is_floating_point()
        and a.ndim <= 3
        and a.shape == b.shape
    ]


def _add(sums: _Sums, candidate: Call, reference: Call, replay: Tensor) -> None:
    ours, theirs, replayed = (x.double() for x in (candidate.output, reference.output, replay))
    sums.moments = _merged(sums.moments, ours)
    sums.reference_moments = _merged(sums.reference_moments, theirs)
    finite = ours[torch.isfinite(ours)]
    sums.absmax = max(sums.absmax, float(finite.abs().max()) if finite.numel() else 0.0)
    sums.non_finite += ours.numel() - finite.numel()
    sums.output += _squares(ours, theirs, theirs)
    sums.own += _squares(ours, replayed, theirs)
    sums.inherited += _squares(replayed, theirs, theirs)
    for a, b in _activations(reference, candidate):
        sums.input += _squares(b.double(), a.double(), a.double())


def _squares(x: Tensor, y: Tensor, scale: Tensor) -> np.ndarray:
    """Sum of (x − y)² and of scale², over what is finite in `y`; infinite where `x` alone is not finite."""
    error, size = (x - y).square().sum(), scale.square().sum()
    if not bool(torch.isfinite(error + size)):
        kept = torch.isfinite(y) & torch.isfinite(scale)
        size = scale[kept].square().sum()
        lost = bool((~torch.isfinite(x[kept])).any())
        error = torch.tensor(torch.inf) if lost else (x[kept] - y[kept]).square().sum()
    return np.array([float(error), float(size)])


def _merged(moments: np.ndarray, values: Tensor) -> np.ndarray:
    """Count, mean and sum of squared deviations after these values (Chan, Golub, LeVeque 1983)."""
    finite = values[torch.isfinite(values)]
    if not finite.numel():
        return moments
    count, mean = finite.numel(), float(finite.mean())
    deviations = float((finite - mean).square().sum())
    before, old_mean, old_deviations = moments
    total = before + count
    shift = mean - old_mean
    return np.array(
        [
            total,
            old_mean + shift * count / total,
            old_deviations + deviations + shift**2 * before * count / total,
        ]
    )


def _profile(
    candidate: str,
    reference: str,
    sums: dict[tuple[str, int], _Sums],
    roundoffs: list[float],
    notes: int,
    peak: int,
) -> LayerProfile:
    values = list(sums.values())

    def column(get: Callable[[_Sums], float]) -> np.ndarray:
        return np.array([get(one) for one in values], np.float64)

    return LayerProfile(
        candidate=candidate,
        reference=reference,
        names=tuple(name if not call else f"{name} ({call + 1})" for name, call in sums),
        kinds=tuple(one.kind for one in values),
        mean=column(lambda one: one.moments[1]),
        std=column(lambda one: _deviation(one.moments)),
        absmax=column(lambda one: one.absmax),
        non_finite=np.array([one.non_finite for one in values], np.int64),
        reference_std=column(lambda one: _deviation(one.reference_moments)),
        relative_error=column(lambda one: _ratio(one.output)),
        input_error=column(lambda one: _ratio(one.input) if one.input[1] else np.nan),
        inherited_error=column(lambda one: _ratio(one.inherited)),
        own_error=column(lambda one: _ratio(one.own)),
        unit_roundoff=max(roundoffs),
        finer_roundoff=min(roundoffs),
        notes=notes,
        activation_bytes=peak,
    )


def _deviation(moments: np.ndarray) -> float:
    return float(np.sqrt(moments[2] / moments[0])) if moments[0] else float("nan")


def _ratio(squares: np.ndarray) -> float:
    error, size = squares
    if error == 0:
        return 0.0
    return float(np.sqrt(error / size)) if size else float("inf")


def _numbered(calls: Sequence[Call]) -> Iterator[tuple[tuple[str, int], Call]]:
    """Calls under their module's name and how often it was called before."""
    seen: dict[str, int] = {}
    for call in calls:
        seen[call.name] = seen.get(call.name, -1) + 1
        yield (call.name, seen[call.name]), call


def _tensor_of(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, tuple) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def _changes_nothing(module: nn.Module) -> bool:
    if isinstance(module, nn.Dropout):
        return not module.training or module.p == 0
    return isinstance(module, nn.Identity)


def _height(module: nn.Module) -> int:
    """0 for a module without parts; containers count as their parts."""
    below = [_height(child) for child in module.children()]
    container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return max(below, default=0) + (0 if container or not below else 1)


def _bytes(calls: Iterator[Call]) -> int:
    """Memory of everything that these calls hold on to, each tensor once."""
    held: dict[int, int] = {}
    for call in calls:
        for value in (call.output, *call.args, *call.kwargs.values()):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())
