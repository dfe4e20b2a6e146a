"""A snippet that saves a run file from one's own evaluation loop, on any machine."""

import inspect
import json
from collections.abc import Collection, Mapping, Sequence

from shifamind_core.artifacts.weight_parts import weight_parts


def snippet(architectures: Mapping[str, Sequence[Collection[str]]]) -> str:
    """Python to paste below the seed's `get_probs_from_model`; it needs torch, NumPy and safetensors only.

    Its function `save_run` calls that loop unchanged, with a loader and a forward hook that take note of what
    passes: so the file says what this very loop did, whatever its precision, padding or mode.

    Parameters
    ----------
    architectures : dict of str to lists of names
        By which beginnings of a state dict's keys each architecture is recognised: all names of one of its lists.
    """
    lines = [
        f"    ({json.dumps(name)}, {json.dumps(sorted(names))}),\n"
        for name, ways in architectures.items()
        for names in ways
    ]
    filled = SNIPPET.replace("ARCHITECTURES = []", f"ARCHITECTURES = [\n{''.join(lines)}]")
    return filled.replace("WEIGHT_PARTS = None\n", inspect.getsource(weight_parts))


SNIPPET = '''\
# Saves a run file from your own evaluation loop: the logits before the sigmoid and how they came to be. Paste it
# below get_probs_from_model, then use the last lines. Only digests of notes are saved, never their text.
import hashlib, json, os, platform, re, subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

# How keys of a state dict begin: all names of a line are such a model.
ARCHITECTURES = []


def save_run(path, evaluate, model, loader, *arguments, checkpoint=None, checkpoint_path=None,
             tokenizer=None, split=None, texts=None, **options):
    """Return evaluate(model, loader, *arguments, **options), and save what passed by as a run file.

    checkpoint: the loaded dict (its codes and epoch); checkpoint_path: its file; tokenizer: what made the input
    (its casing); split: 'test' or 'val'; texts: all notes in the loader's order, if batches have no 'text'.
    """
    seen = {name: [] for name in ("logits", "labels", "concept_scores", "document_ids", "token_digests")}
    widths, lengths, state = [], [], {}

    class Watched:
        """The loader, looked at as it passes."""

        def __len__(self):
            return len(loader)

        def __iter__(self):
            for kept in (*seen.values(), widths, lengths):
                kept.clear()
            for batch in loader:
                ids, mask = batch["input_ids"].cpu(), batch["attention_mask"].cpu().bool()
                seen["labels"].append(np.asarray(batch["labels"].cpu()).astype(np.uint8))
                for row, real in zip(ids, mask):
                    seen["token_digests"].append(digest(row[real].numpy().astype("<i4").tobytes()))
                for text in batch.get("text", ()):
                    seen["document_ids"].append(digest(text.encode()))
                widths.append(ids.shape[1])
                lengths.append(int(mask.sum(1).max()))
                yield batch

    def watch(module, inputs, outputs):
        outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
        for name in ("logits", "concept_scores"):
            if outputs.get(name) is not None:
                seen[name].append(plain(outputs[name]))
        if not state:
            kind = outputs["logits"].device.type
            if torch.is_autocast_enabled(kind):
                state["autocast"] = str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
            state["training"] = module.training

    hook = model.register_forward_hook(watch)
    try:
        result = evaluate(model, Watched(), *arguments, **options)
    finally:
        hook.remove()

    arrays = {name: np.concatenate(seen[name]) for name in ("logits", "labels", "concept_scores") if seen[name]}
    ids = [digest(text.encode()) for text in texts] if texts is not None else seen["document_ids"]
    arrays |= {"document_ids": np.array(ids, np.int64)} if ids else {}
    arrays["token_digests"] = np.array(seen["token_digests"], np.int64)
    assert len({len(array) for array in arrays.values()}) == 1, {name: len(a) for name, a in arrays.items()}
    config = (checkpoint or {}).get("config") or {}
    about = {"format": "shifamind-run/1", "manifest": json.dumps(known({
        "producer": "shifamind capture",
        "created_at_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "split": split,
        "checkpoint": describe_checkpoint(model, checkpoint or {}, checkpoint_path),
        "tokenization": describe_tokenization(tokenizer, widths, lengths),
        "flags": describe_flags(model, state),
        "environment": describe_environment(model),
        "batch_size": getattr(loader, "batch_size", None),
        "notes": ["The model was in training mode: dropout was on."] if state["training"] else [],
    }))}
    if config.get("top_50_codes"):
        about["codes"] = json.dumps(list(config["top_50_codes"]))
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata=about)
    print(f"Saved {path}: {arrays['logits'].shape[0]} notes x {arrays['logits'].shape[1]} codes")
    return result


def digest(content):
    """First 8 bytes of the SHA-256, as a signed integer."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def plain(tensor):
    """A NumPy array in the dtype computed; bfloat16 as float32, which holds it exactly."""
    tensor = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
    return tensor.cpu().numpy()


def known(record):
    """Without what is not known."""
    if not isinstance(record, dict):
        return record
    return {key: known(value) for key, value in record.items() if value is not None}


def asked(question, *unknown):
    """The answer, or None where this machine has none."""
    try:
        return question()
    except (AttributeError, RuntimeError, OSError, subprocess.SubprocessError, *unknown):
        return None


def describe_checkpoint(model, checkpoint, path):
    core = getattr(model, "module", model)  # below DataParallel
    tensors = {name: t for name, t in core.state_dict().items() if not name.endswith(".position_ids")}

    def weights(dtype=None):  # as stored, or rounded: a copy saved in half precision has the same
        content = hashlib.sha256()
        for name in sorted(tensors):
            tensor = tensors[name].detach().to("cpu", dtype).contiguous()
            stored = f" {tensor.dtype}" if dtype is None else ""
            content.update(f"{name}{stored} {tuple(tensor.shape)}\\n".encode())
            content.update(tensor.flatten().view(torch.uint8).numpy().data)
        return content.hexdigest()

    def part(names):  # as FP32, in which models compute, whatever dtype stores them
        content = hashlib.sha256()
        for name, inside in names.items():
            tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
            content.update(f"{inside} {tuple(tensor.shape)}\\n".encode())
            content.update(tensor.flatten().view(torch.uint8).numpy().data)
        return content.hexdigest()

    def untrained(names):  # as the library makes a part: biases 0, weights of layer norms 1
        made = [bool((tensors[name] == name.endswith("weight")).all()) for name in names if tensors[name].ndim == 1]
        return bool(made) and all(made)

    parts = weight_parts(list(tensors))
    starts = {".".join(name.split(".")[:length + 1]) for name in tensors for length in range(name.count(".") + 1)}
    return {
        "file_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None,
        "weights_digest": weights(),
        "weights_digest_fp16": weights(torch.float16),
        "weights_digest_bf16": weights(torch.bfloat16),
        "part_digests": {name: part(names) for name, names in parts.items()} or None,
        "untrained_parts": [name for name, names in parts.items() if untrained(names)] if parts else None,
        "architecture": next((name for name, names in ARCHITECTURES
                              if set(names) <= starts), None),
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        **{key: plain_number(checkpoint.get(name)) for key, name in (
            ("epoch", "epoch"), ("stored_macro_f1", "macro_f1"), ("stored_micro_f1", "micro_f1"))},
    }


WEIGHT_PARTS = None


def plain_number(value):
    return value.item() if hasattr(value, "item") else value


def describe_tokenization(tokenizer, widths, lengths):
    # One width, and a batch with room to spare: padded to a maximum. Widths that follow the notes: to the longest.
    padding = "max_length" if len(set(widths)) == 1 and min(lengths) < widths[0] else None
    padding = "longest" if len(set(widths)) > 1 and widths == lengths else padding
    record = {"padding": padding, "max_length": widths[0] if padding == "max_length" else None}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        vocabulary = backend.get_vocab(with_added_tokens=True)
        record |= {
            "lowercase": backend.normalizer is not None and backend.normalizer.normalize_str("A") == "a",
            "normalizer": json.dumps(json.loads(backend.to_str())["normalizer"], sort_keys=True),
            "vocabulary_sha256": hashlib.sha256(
                "\\n".join(sorted(vocabulary, key=vocabulary.get)).encode()).hexdigest(),
        }
    if tokenizer is not None:
        record["tokenizer_class"] = type(tokenizer).__name__
        record["truncation_side"] = getattr(tokenizer, "truncation_side", None)
    return record


def describe_flags(model, state):
    cuda, cudnn, parameter = torch.backends.cuda, torch.backends.cudnn, next(model.parameters())
    old = not hasattr(cuda.matmul, "fp32_precision")  # torch before 2.9
    tf32 = cuda.matmul.allow_tf32 if old else cuda.matmul.fp32_precision == "tf32"
    measured = None
    if parameter.is_cuda:  # 1 + 2^-11 is exact in FP32; TF32 has to round it
        value = torch.full((256, 256), 1 + 2**-11, device=parameter.device)
        measured = bool((value @ torch.eye(256, device=parameter.device) != value).any())
    backends = {"flash": cuda.flash_sdp_enabled, "mem_efficient": cuda.mem_efficient_sdp_enabled,
                "math": cuda.math_sdp_enabled, "cudnn": cuda.cudnn_sdp_enabled}
    core = getattr(model, "module", model)
    return {
        "float32_matmul_precision": "high" if tf32 else "highest",
        "cuda_matmul_allow_tf32": tf32,
        "cudnn_allow_tf32": cudnn.allow_tf32 if old else "tf32" in (
            cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision),
        "tf32_measured": measured,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": cudnn.deterministic,
        "cudnn_benchmark": cudnn.benchmark,
        "cpu_matmul_fp32_precision": asked(lambda: torch.backends.mkldnn.matmul.fp32_precision),
        "fp16_reduced_precision_reduction": bool(cuda.matmul.allow_fp16_reduced_precision_reduction),
        "bf16_reduced_precision_reduction": bool(cuda.matmul.allow_bf16_reduced_precision_reduction),
        "autocast": state.get("autocast"),
        "weights": str(parameter.dtype).removeprefix("torch."),
        "attention": asked(lambda: core.base_model.config._attn_implementation),
        "sdpa_backends": [name for name, enabled in backends.items() if enabled()],
        "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "nvidia_tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE"),
        "threads": None if parameter.is_cuda else torch.get_num_threads(),
    }


def describe_environment(model):
    device = next(model.parameters()).device
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    cudnn = torch.backends.cudnn.version()
    packages = {"transformers": "transformers", "tokenizers": "tokenizers", "numpy": "numpy",
                "pandas": "pandas", "scikit_learn": "scikit-learn"}
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": "cuda" if gpu else "cpu",
        "gpu": gpu.name if gpu else None,
        "gpu_count": torch.cuda.device_count() if gpu else None,
        "compute_capability": f"{gpu.major}.{gpu.minor}" if gpu else None,
        "multiprocessors": gpu.multi_processor_count if gpu else None,
        "gpu_memory_bytes": gpu.total_memory if gpu else None,
        "driver": asked(lambda: subprocess.check_output(driver, text=True).split()[0]) if gpu else None,
        "cuda": torch.version.cuda,
        "cudnn": str(cudnn) if cudnn else None,
        "torch": torch.__version__,
        **{key: asked(lambda name=name: metadata.version(name), metadata.PackageNotFoundError)
           for key, name in packages.items()},
    }


# The same call as before, by way of save_run; probabilities and labels come back unchanged. Name your variables:
#
#   probs, labels = save_run("test_this_gpu.safetensors", get_probs_from_model, model, test_loader,
#                            checkpoint=checkpoint, checkpoint_path=CHECKPOINT_PATH, tokenizer=tokenizer, split="test")
#
# Then upload the file on the page "Differences", or: python -m shifamind_core diagnose THIS_RUN OTHER_RUN
'''
