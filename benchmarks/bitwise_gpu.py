"""Hold `bitwise` on a GPU against this machine's CPU, and time it: `python -m benchmarks.bitwise_gpu --out DIR`.

Needs torch with CUDA, transformers and this package. Every part writes `DIR/PART.json`; a part that fails is recorded with its
traceback, and the rest go on in a fresh process, since a failed CUDA call spoils the one it happened in. `DIR/bitwise.json` is
all of them. `--only PART …` runs some of them.
"""

import argparse
import copy
import hashlib
import importlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from shifamind_core.analysis.fingerprint import fingerprint
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo.writer import write_demo
from shifamind_core.inference.bitwise_model import BitwiseModel
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.predict import predict
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.model.checkpoint import weights_digest
from shifamind_core.precision.apply import applied
from shifamind_core.precision.bitwise import elementary, int8, operations
from shifamind_core.precision.bitwise.choose import check_arithmetic, kernels_for, timed
from shifamind_core.precision.bitwise.exact_products import exact_product, fixed, halves
from shifamind_core.precision.bitwise.operations import PLAIN, Dense, Kernels, Norm
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.records import to_json
from simulation.bitwise_cases import base_case, function_digests, recorded, sha256, small_cases, weights_of
from simulation.reference_models import (
    ARCHITECTURES,
    CONDITIONINGS,
    SMALL,
    reference_input,
    reference_model,
    reference_notes,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SECONDS = 330  # no part starts later than this
BATCH = 16
SIDE_BY_SIDE = ("bitwise", "fp32", "tf32", "bf16-autocast")
H200_LOGITS = Path(__file__).parents[1] / "tests" / "data" / "h200_logits.npz"


def main() -> None:
    """Run the parts in child processes until all are done or time is up."""
    parser = argparse.ArgumentParser(description="Hold bitwise on a GPU against this CPU, and time it.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.child:
        sys.exit(run_parts(options.only, options.out))
    for name in options.only:
        (options.out / f"{name}.json").unlink(missing_ok=True)
    started, remaining = time.perf_counter(), list(options.only)
    while remaining:
        left = options.seconds - (time.perf_counter() - started)
        if left < 5:
            break
        command = [
            sys.executable, "-m", "benchmarks.bitwise_gpu", "--child", "--out", str(options.out), "--only", *remaining,
        ]  # fmt: skip
        try:
            subprocess.run(command, timeout=left, check=False)
        except subprocess.TimeoutExpired:
            print(f"stopped after {options.seconds:.0f} s", flush=True)
        begun = [name for name in remaining if (options.out / f"{name}.json").exists()]
        if not begun:
            print("a child ended before its first part", flush=True)
            break
        remaining = remaining[len(begun) :]
    record: dict[str, Any] = {
        name: json.loads((options.out / f"{name}.json").read_text())
        for name in PARTS
        if (options.out / f"{name}.json").exists()
    }
    record["not_run"] = remaining
    record["seconds"] = round(time.perf_counter() - started, 1)
    (options.out / "bitwise.json").write_text(json.dumps(record, indent=1))
    print(f"all of it: {record['seconds']} s, not run: {remaining}", flush=True)


def run_parts(names: list[str], out: Path) -> int:
    """The parts in this process, up to the first that fails; 1 if one did."""
    for name in names:
        begun = time.perf_counter()
        file = out / f"{name}.json"
        file.write_text(json.dumps({"error": "did not end"}))
        print(f"{name} …", flush=True)
        found: dict[str, Any]
        try:
            found = PARTS[name]()
        except Exception:  # noqa: BLE001 — recorded whole; what else there is to measure goes on
            found = {"error": traceback.format_exc()[-4000:]}
        found["seconds"] = round(time.perf_counter() - begun, 1)
        file.write_text(json.dumps(found, indent=1))
        print(f"{name}: {json.dumps(found)[:1500]}", flush=True)
        if "error" in found:
            return 1
    return 0


def attempted(call: Callable[[], Any]) -> Any:
    """What it gives, or the end of what it raises: one path that fails must not hide the others."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 — recorded
        return f"{type(error).__name__}: {str(error)[-1500:]}"


def fused_kernels() -> dict[str, Kernels]:
    """Both fused implementations; none where Triton is not to be had, which `environment` records."""
    try:
        from shifamind_core.precision.bitwise.fused import Fused
    except ImportError:
        return {}
    return {name: Fused(GPU, name == "int8").kernels() for name in ("fp64", "int8")}


def differing(one: Tensor, other: Tensor) -> int:
    """Numbers whose bits differ, one NaN being like another."""
    one, other = (torch.where(torch.isnan(x), torch.nan, x).cpu().contiguous() for x in (one, other))
    bits = torch.int32 if one.dtype == torch.float32 else torch.int64
    return int((one.view(bits) != other.view(bits)).sum())


def environment() -> dict[str, Any]:
    """The machine, and which implementation it chooses."""
    check_arithmetic(CPU)
    check_arithmetic(GPU)
    seconds = {"fp64": timed(GPU, False), "int8": timed(GPU, True)}
    return {
        "machine": to_json(observe_environment(GPU)),
        "threads": torch.get_num_threads(),
        "choice_seconds": seconds,
        "chosen": attempted(lambda: kernels_for(GPU).name),
        "triton": attempted(lambda: importlib.import_module("triton").__version__),
        "fused": sorted(fused_kernels()),
    }


def hostile_floats(rows: int, inner: int, seed: int) -> Tensor:
    """FP32 rows of wild exponents, with rows of zeros, subnormal numbers, the largest number, infinity and NaN."""
    random = np.random.Generator(np.random.PCG64(seed))
    mantissa = random.integers(-(2**23), 2**23, (rows, inner)).astype(np.float64)
    spread = random.integers(0, 60, (rows, 1))
    exponent = random.integers(-100, 60, (rows, 1)) + random.integers(0, 2**30, (rows, inner)) % (spread + 1)
    x = (mantissa * 2.0**-23 * 2.0**exponent).astype(np.float32)
    x[0] = 0
    x[1] = mantissa[1] * 2.0**-149
    x[2, ::3] = np.float32(3.4e38)
    x[3, 1], x[4, 2], x[5] = np.inf, np.nan, -0.0
    return torch.from_numpy(x)


def products() -> dict[str, Any]:
    """100,000 and more products over hostile exponents, and the operations made of them: CPU = GPU by every path."""
    found: Any = {"products": 0, "differing": {}}
    paths = fused_kernels()
    for seed, inner in enumerate((16, 64, 96, 768, 3072, 8192)):
        left, layer = hostile_floats(136, inner, seed), nn.Linear(inner, 160)
        layer.weight.data = hostile_floats(160, inner, 100 + seed)
        layer.bias.data = hostile_floats(160, 8, 200 + seed)[:, 0].contiguous()
        cut, other = fixed(left), fixed(layer.weight.detach())
        a, b = (torch.where(torch.isnan(x.unit)[:, None], 0.0, x.numbers) for x in (cut, other))
        reference = exact_product(a, halves(b))
        found["products"] += reference.numel()
        count = {
            "plain": differing(reference, exact_product(a.to(GPU), halves(b.to(GPU)))),
            "bytes": differing(
                reference, int8.joined(int8.partial_sums(int8.digits(a.to(GPU)), int8.backwards(b.to(GPU))))
            ),
        }
        for function in (None, elementary.gelu, elementary.sigmoid, elementary.tanh, elementary.relu):
            wanted = operations.dense(left, Dense.of(layer, CPU), function)
            for name, kernels in {"plain": PLAIN, **paths}.items():
                count[f"dense {name} {function.__name__ if function else ''}"] = attempted(
                    lambda k=kernels, f=function, w=wanted, x=left, y=layer: differing(
                        w, k.dense(x.to(GPU), Dense.of(y, GPU), f)
                    )
                )
        norm = nn.LayerNorm(160)
        norm.weight.data, norm.bias.data = hostile_floats(160, 8, 300)[:, 6:].T.contiguous()
        residual = hostile_floats(136, 160, 400 + seed)
        wanted = operations.dense_and_normalize(left, Dense.of(layer, CPU), residual, Norm.of(norm, CPU))
        for name, kernels in {"plain": PLAIN, **paths}.items():
            count[f"normalize {name}"] = attempted(
                lambda k=kernels, w=wanted, x=left, y=layer, r=residual, n=norm: differing(
                    w, k.dense_and_normalize(x.to(GPU), Dense.of(y, GPU), r.to(GPU), Norm.of(n, GPU))
                )
            )
        found["differing"][str(inner)] = count
    return found


def functions() -> dict[str, Any]:
    """Elementary functions of a million FP32 bit patterns, attention with masks, infinities and NaN: CPU = GPU."""
    random = np.random.Generator(np.random.PCG64(1))
    bits = random.integers(-(2**31), 2**31, 2**20).astype(np.int32)
    x = torch.cat([torch.from_numpy(bits).view(torch.float32), torch.linspace(-20, 20, 2**20)])
    found: dict[str, Any] = {}
    for name in ("gelu", "sigmoid", "tanh", "relu"):
        function = getattr(elementary, name)
        found[name] = differing(
            operations.elementwise(function, x), operations.elementwise(function, x.to(GPU))
        )
    below = torch.linspace(-40, 0, 2**20, dtype=torch.float64)
    found["exp"] = differing(elementary.exp(below), elementary.exp(below.to(GPU)))
    found["library exp, which must differ"] = differing(torch.exp(below), torch.exp(below.to(GPU)))
    query, key, value = (hostile_floats(3 * 40, 64, s).clamp(-1, 1).view(3, 40, 64) for s in (5, 6, 7))
    mask = torch.arange(40) < torch.tensor([[40], [17], [1]])
    for masked in (None, mask):
        wanted = operations.attention(query, key, value, masked, 4)
        for name, kernels in {"plain": PLAIN, **fused_kernels()}.items():
            there = None if masked is None else masked.to(GPU)
            found[f"attention {name}, {'masked' if masked is not None else 'whole'}"] = attempted(
                lambda k=kernels, w=wanted, t=there: differing(
                    w, k.attention(query.to(GPU), key.to(GPU), value.to(GPU), t, 4)
                )
            )
    return found


def digests() -> dict[str, Any]:
    """The digests that CI holds, by every path, in batches of 16, 5 and 1."""
    found: dict[str, Any] = {}
    wanted = recorded()
    for made in (*small_cases(), base_case()):
        expected = wanted[made.name]
        whole = made.logits(CPU)
        entry: dict[str, Any] = {
            "weights as recorded": weights_of(made.model) == expected["weights"],
            "cpu": sha256(whole) == expected["logits"],
            "spread": float(whole.std()),
        }
        for name, kernels in {"plain": PLAIN, **fused_kernels()}.items():
            for batch in (16, 5, 1):
                entry[f"gpu {name}, batch {batch}"] = attempted(
                    lambda m=made, b=batch, k=kernels, e=expected: sha256(m.logits(GPU, b, k)) == e["logits"]
                )
        found[made.name] = entry
    return found


def demo() -> dict[str, Any]:
    """The built-in checkpoint's fingerprint on 32 notes: CPU and GPU, other batch sizes; then all notes on the GPU."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "demo"
        write_demo(folder)
        pipeline = Pipeline(RunDirectory(folder))

        def run(device: str, batch: int, limit: int | None) -> dict[str, Any]:
            setting = Setting(policy=POLICIES["bitwise"], device=device, batch_size=batch)
            done = pipeline.score("test", setting, limit).run
            return {
                "fingerprint": fingerprint(done),
                "seconds": done.manifest.duration_seconds,
                "remarks": list(done.manifest.notes),
            }

        runs = [("cpu", 16, 32), ("cuda", 16, 32), ("cuda", 7, 32), ("cuda", 1, 32), ("cuda", 16, None)]
        return {f"{device}, batch {batch}, {limit or 'all'} notes": run(device, batch, limit) for device, batch, limit in runs}  # fmt: skip


def full_case() -> tuple[nn.Module, Tensor, Tensor]:
    """BERT-base with 512 tokens, every one of them real."""
    made = base_case(64, 512)
    return made.model, made.ids.clamp(min=5), torch.ones_like(made.mask)


def speed() -> dict[str, Any]:
    """Notes a second and peak memory, BERT-base, 512 tokens: FP32, plain, fused; and the logits equal bit for bit."""
    model, ids, mask = full_case()
    ids, mask = ids.to(GPU), mask.to(GPU)
    found: dict[str, Any] = {}
    logits: dict[str, Tensor] = {}
    with torch.inference_mode(), applied(POLICIES["fp32"], GPU):
        found["fp32"], logits["fp32"] = rate(in_fp32(copy.deepcopy(model).to(GPU)), ids, mask, 256)
        for name, kernels, notes in (
            *((n, k, 128) for n, k in fused_kernels().items()),
            ("plain", PLAIN, 32),
        ):

            def measured(kernels: Kernels = kernels, notes: int = notes) -> tuple[Any, Tensor]:
                run = BitwiseModel(model, GPU, kernels)
                return rate(lambda i, m: run(i, m)["logits"], ids[: min(notes, 64)], mask, notes)

            result = attempted(measured)
            if isinstance(result, str):
                found[name] = {"error": result}
            else:
                found[name], logits[name] = result
            print(name, found[name], flush=True)
    reference = logits.get("fp64", logits["plain"])
    for name, values in logits.items():
        shared = min(len(values), len(reference))
        found[f"{name}: logits that differ of {values[:shared].numel()}"] = differing(
            reference[:shared], values[:shared]
        )
    found["largest difference of fp32 from bitwise"] = float(
        (logits["fp32"][: len(reference)] - reference).abs().max()
    )
    found["sha256 of 16 notes"] = sha256(reference[:16])
    return found


def in_fp32(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """The model as it is, giving logits."""
    return lambda ids, mask: model(ids, mask)["logits"]


def rate(
    forward: Callable[[Tensor, Tensor], Tensor], ids: Tensor, mask: Tensor, notes: int
) -> tuple[dict[str, float], Tensor]:
    """Of so many notes, in batches of 16 taken in turn, after one that warms up."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    forward(ids[:BATCH], mask[:BATCH])
    torch.cuda.synchronize()
    started = time.perf_counter()
    parts = []
    for start in range(0, notes, BATCH):
        at = start % len(ids)
        parts.append(forward(ids[at : at + BATCH], mask[:BATCH]))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    logits = torch.cat(parts)[: len(ids)].cpu()
    return {
        "notes_per_second": round(notes / seconds, 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }, logits


def cpu() -> dict[str, Any]:
    """Notes a second on this CPU, FP32 and bitwise, 512 tokens; and the GPU's logits of the same notes."""
    model, ids, mask = full_case()
    run, on_gpu = BitwiseModel(model, CPU), BitwiseModel(model, GPU, kernels_for(GPU))
    found: dict[str, Any] = {"threads": torch.get_num_threads()}
    with torch.inference_mode():
        for name, forward, notes in (
            ("fp32", lambda i, m: model(i, m)["logits"], 8),
            ("bitwise", lambda i, m: run(i, m)["logits"], 8),
        ):
            forward(ids[:1], mask[:1])
            started = time.perf_counter()
            got = forward(ids[:notes], mask[:notes])
            found[name] = {"notes_per_second": round(notes / (time.perf_counter() - started), 3)}
            print(name, found[name], flush=True)
        wanted = on_gpu(ids[:8].to(GPU), mask[:8].to(GPU))["logits"]
    found["gpu differs from cpu in"] = differing(got, wanted)
    found["logits compared"] = got.numel()
    return found


def mutations() -> dict[str, Any]:
    """What must show: a library's exp, and a·b + c in one rounding, change the digest or the bits between machines."""
    made = next(small_cases())
    wanted = recorded()["functions"]
    found: dict[str, Any] = {"functions as recorded": function_digests(GPU) == wanted}
    with mock.patch.object(elementary, "exp", torch.exp):
        changed = function_digests(GPU)
        found["functions that a library's exp changes"] = [n for n in wanted if changed[n] != wanted[n]]
        one, other = made.logits(CPU), made.logits(GPU)
    found["library exp: logits that differ between CPU and GPU"] = differing(one, other)
    from benchmarks.bitwise_kernels import evaluated

    grid = torch.linspace(-20, 0, 2**20, dtype=torch.float32).to(torch.float64)
    for name, function in (("exp", elementary.exp), ("gelu", lambda x: elementary.gelu(x.float()))):
        wanted = function(grid)
        for contracted in (False, True):
            got = evaluated(name, grid.to(GPU), contracted)
            found[f"{name} in FP64, contraction {contracted}: numbers that differ"] = differing(wanted, got)
    return found


def many() -> dict[str, Any]:
    """4,096 notes of different lengths, sharp attention: every path on the GPU alike, and the CPU on some of them."""
    size = replace(SMALL, notes=4096)
    found: dict[str, Any] = {}
    ids, mask = reference_notes(size)
    for architecture in ARCHITECTURES:
        model = reference_model(architecture, "ill", size)
        logits: dict[str, Tensor] = {}
        for name, kernels in {**fused_kernels(), "plain": PLAIN}.items():
            logits[name] = in_batches(BitwiseModel(model, GPU, kernels), ids, mask, GPU, 64)
        logits["cpu, 64 notes"] = in_batches(BitwiseModel(model, CPU), ids[:64], mask[:64], CPU, 7)
        whole = logits["plain"]
        found[architecture] = {
            "logits": whole.numel(),
            "spread": float(whole.std()),
            "differing": {name: differing(whole[: len(other)], other) for name, other in logits.items()},
            "sha256": sha256(whole),
        }
    return found


def in_batches(run: BitwiseModel, ids: Tensor, mask: Tensor, device: torch.device, batch: int) -> Tensor:
    """Logits on the CPU."""
    with torch.inference_mode():
        parts = zip(ids.split(batch), mask.split(batch), strict=True)
        return torch.cat([run(i.to(device), m.to(device))["logits"].cpu() for i, m in parts])


def side_by_side() -> dict[str, Any]:
    """SHA-256 of the demo's logits under other policies, to hold two GPUs against each other."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "demo"
        write_demo(folder)
        pipeline = Pipeline(RunDirectory(folder))
        for policy in SIDE_BY_SIDE:
            for casing, lowercase in (("lower-cased", True), ("cased", False)):
                setting = Setting(
                    policy=POLICIES[policy], tokenization=Tokenization(lowercase), device="cuda"
                )
                run = pipeline.score("test", setting).run
                found[f"demo, {casing}, {policy}"] = hashlib.sha256(run.logits.tobytes()).hexdigest()
    return found


def reference_models() -> dict[str, Any]:
    """Small models from a seed, plain and ill-conditioned: SHA-256 under every policy, and how far from the H200's logits."""
    found: dict[str, Any] = {}
    kept = np.load(H200_LOGITS)
    for architecture in ARCHITECTURES:
        for conditioning in CONDITIONINGS:
            model = reference_model(architecture, conditioning)
            found[f"{architecture}.{conditioning}"] = {"weights": weights_digest(model.state_dict())}
            for policy in (*SIDE_BY_SIDE, "fp64", "portable", "fp16-autocast", "fp16", "bf16"):
                with applied(POLICIES[policy], GPU):
                    logits = predict(model, reference_input(), POLICIES[policy], GPU, 64).logits[:64]
                name = f"{architecture}.{conditioning}.{policy}"
                stored = kept.get(name)
                found[name] = {
                    "sha256": hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest(),
                    "from the H200": stored if stored is None else float(np.abs(logits - stored).max()),
                }
    return found


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "environment": environment,
    "digests": digests,
    "products": products,
    "functions": functions,
    "speed": speed,
    "mutations": mutations,
    "demo": demo,
    "cpu": cpu,
    "many": many,
    "side_by_side": side_by_side,
    "reference_models": reference_models,
}

if __name__ == "__main__":
    main()
