"""Text to run file, against the protocol's own loop in the same process: `python -m benchmarks.throughput`.

Both read the pickled split, tokenize, score under one policy and write what they scored. The protocol's loop asks the tokenizer
for one note a call, in a data set of a `DataLoader` with 16 notes a batch, and fetches each batch's logits before the next. The
ceiling is this device's rate for one large matrix product under the same policy. Where there is a GPU, recorded forwards are
held against plain ones bit by bit; where there is none, a smaller model scores 64 notes. `--json FILE` keeps the numbers;
`--batch-size N` is this project's, the loop keeps the protocol's 16.
"""

import argparse
import json
import math
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertTokenizerFast

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo.notes import write_note
from shifamind_core.inference import predict as forward_passes
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.model.shifamind import ClsFusion
from shifamind_core.precision.apply import applied, autocast
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.run_file import write_run_file
from simulation.builders import SPECIAL
from simulation.run_directories import write_run_directory

NOTES, CHARACTERS, TOKENS, BATCH = 4096, 9000, 512, 16
NAMES = ("fp32", "tf32", "bf16-autocast", "bf16")


def write_base(folder: Path, texts: list[str]) -> None:
    """A vocabulary of the notes' own words, as many as fit, and letters for the rest."""
    words = sorted({word for text in texts[:200] for word in text.lower().split() if word.isalpha()})
    letters = [chr(number) for number in range(33, 127)]
    every = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words[:20_000]]
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in dict.fromkeys(every)))


def make(folder: Path, small: bool) -> tuple[Path, Path]:
    """A run directory of random weights in BERT-base's shape, and its base model."""
    count = 64 if small else NOTES
    run, base = folder / "run", folder / "base"
    config = BertConfig(vocab_size=28_996)
    if small:
        config.num_hidden_layers = 4
    torch.manual_seed(0)
    write_run_directory(run, ClsFusion(config, 50, 113), count)
    path = run / "shared_data" / "test_split.pkl"
    table = pd.read_pickle(path)
    longer = []
    for index, text in enumerate(table["text"]):
        while len(text) < CHARACTERS:
            text += "\n" + write_note("longer", index * 50 + len(text) % 50).text
        longer.append(text[:CHARACTERS])
    table["text"] = longer
    table.to_pickle(path, protocol=4)
    write_base(base, longer)
    config.save_pretrained(base)
    return run, base


class Notes(torch.utils.data.Dataset):
    """The protocol's data set: a note is tokenized when it is asked for."""

    def __init__(self, texts: list[str], tokenizer: BertTokenizerFast) -> None:
        self.texts, self.tokenizer = texts, tokenizer

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        found = self.tokenizer(
            self.texts[index], padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        return {name: found[name][0] for name in ("input_ids", "attention_mask")}


def protocol(run: Path, base: Path, policy: str, device: torch.device) -> tuple[float, np.ndarray]:
    """Seconds and logits of the protocol's loop under the policy's switches."""
    started = time.perf_counter()
    texts = pd.read_pickle(run / "shared_data" / "test_split.pkl")["text"].tolist()
    state = torch.load(run / "checkpoints" / "phase1" / "phase1_best.pt", weights_only=True)[
        "model_state_dict"
    ]
    model = ClsFusion(BertConfig.from_pretrained(base), 50, 113)
    model.load_state_dict(state)
    model.to(device).eval()
    if POLICIES[policy].weights == "bfloat16":
        model.bfloat16()
    loader = torch.utils.data.DataLoader(
        Notes(texts, BertTokenizerFast(str(base / "vocab.txt"))), batch_size=BATCH
    )
    parts = []
    with applied(POLICIES[policy], device, "sdpa"), torch.no_grad(), autocast(POLICIES[policy], device):
        for batch in loader:
            outputs = model(**{name: tensor.to(device) for name, tensor in batch.items()})
            parts.append(outputs["logits"].float().cpu().numpy())
    logits = np.concatenate(parts)
    np.save(run / "logits.npy", logits)
    return time.perf_counter() - started, logits


def ours(
    run: Path, base: Path, policy: str, device: torch.device, out: Path, batch: int
) -> tuple[float, float, Any]:
    """Seconds of this project's pipeline without its cache, of its forward passes once all notes are there, and the run."""
    started = time.perf_counter()
    pipeline = Pipeline(RunDirectory(run), base)
    setting = Setting(POLICIES[policy], Tokenization(max_length=TOKENS), device=str(device), batch_size=batch)
    outcome = pipeline.score("test", setting)
    write_run_file(outcome.run, out)
    seconds = time.perf_counter() - started
    again = pipeline.score("test", setting).run
    assert again.digest == outcome.run.digest
    return seconds, again.manifest.duration_seconds or math.nan, outcome.run


def operations(notes: int, config: BertConfig) -> float:
    """Multiplications and additions of the encoder's matrix products."""
    hidden, inner = config.hidden_size, config.intermediate_size
    token = 2 * (4 * hidden * hidden + 2 * hidden * inner) + 4 * TOKENS * hidden
    return float(notes) * TOKENS * config.num_hidden_layers * token


def ceiling(policy: str, device: torch.device) -> float:
    """Operations a second of a product [8192, 768] × [768, 3072] under the policy."""
    wanted = POLICIES[policy]
    dtype = torch.bfloat16 if "bfloat16" in (wanted.weights, wanted.autocast) else torch.float32
    left, right = (
        torch.randn(8192, 768, device=device, dtype=dtype),
        torch.randn(768, 3072, device=device, dtype=dtype),
    )
    repeats = 200 if device.type == "cuda" else 3
    with applied(wanted, device, "sdpa"):
        for _ in range(3):
            left @ right
        _wait(device)
        started = time.perf_counter()
        for _ in range(repeats):
            left @ right
        _wait(device)
    return repeats * 2 * 8192 * 768 * 3072 / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


KERNELS = {
    "attention": re.compile("fmha|flash|attention"),
    "products": re.compile("gemm|nvjet|cutlass|splitK"),
}


def where_time_goes(run: Path, base: Path, policy: str, device: torch.device, batch: int) -> dict[str, float]:
    """The shares of a GPU's time, by kernels' names, of the passes over 40 batches; the rest is done number by number."""
    setting = Setting(POLICIES[policy], Tokenization(max_length=TOKENS), device=str(device), batch_size=batch)
    with plain(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        Pipeline(RunDirectory(run), base).score("test", setting, limit=40 * BATCH)
    spent = dict.fromkeys((*KERNELS, "the rest"), 0.0)
    for event in seen.key_averages():
        if event.device_type.name == "CUDA":
            kind = next((name for name, wanted in KERNELS.items() if wanted.search(event.key)), "the rest")
            spent[kind] += event.self_device_time_total
    return {name: round(time / sum(spent.values()), 3) for name, time in spent.items()}


@contextmanager
def plain() -> Iterator[None]:
    """Inside, no forward pass is recorded."""
    with patch.object(forward_passes, "RECORDED", 10**9):
        yield


def main() -> None:
    """Measure every policy that the device honours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--policy", choices=NAMES, action="append", help="only these")
    parser.add_argument("--batch-size", type=int, default=BATCH)
    options = parser.parse_args()
    batch = options.batch_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        run, base = make(Path(name), small=device.type == "cpu")
        config = BertConfig.from_pretrained(base)
        ours(
            run, base, "fp32", device, Path(name) / "warm.safetensors", batch
        )  # libraries load and choose kernels
        every = NAMES if device.type == "cuda" else ("fp32", "bf16-autocast")
        for policy in options.policy or every:
            theirs, their_logits = protocol(run, base, policy, device)
            seconds, forward, scored = ours(
                run, base, policy, device, Path(name) / f"{policy}.safetensors", batch
            )
            count = scored.documents
            row = {
                "policy": policy,
                "batch_size": batch,
                "protocol_seconds": round(theirs, 2),
                "seconds": round(seconds, 2),
                "ratio": round(theirs / seconds, 2),
                "forward_seconds": forward,
                "share_of_ceiling": round(operations(count, config) / forward / ceiling(policy, device), 3),
                "equal_to_protocol": bool(np.array_equal(scored.logits, their_logits)),
                "largest_difference": float(np.abs(scored.logits - their_logits).max()),
                "notes": list(scored.manifest.notes),
            }
            if device.type == "cuda":
                with plain():
                    slower, plainly, unrecorded = ours(
                        run, base, policy, device, Path(name) / "plain.safetensors", batch
                    )
                row["plain_seconds"] = round(slower, 2)
                row["plain_forward_seconds"] = plainly
                row["time_in"] = where_time_goes(run, base, policy, device, batch)
                row["recorded_equals_plain"] = scored.logits.tobytes() == unrecorded.logits.tobytes()
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.json:
        where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
        options.json.write_text(
            json.dumps({"device": where, "torch": torch.__version__, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
