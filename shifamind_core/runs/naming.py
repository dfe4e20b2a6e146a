"""What tells runs from each other: short names, and the settings that differ. Both come from the same facts."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shifamind_core.runs.manifest import Manifest

NOT_RECORDED = "not recorded"
NAMED_ALWAYS = ("Policy", "Machine")
# A data-centre GPU's model, as people say it: `NVIDIA A100-SXM4-80GB` is an A100.
GPU_MODEL = re.compile(r"\b(?:GH|GB|[ABHLPTV])\d{1,3}S?\b")


@dataclass(frozen=True)
class Shown:
    """A run among those shown. `own_name` is the one that a person gave it (a file's, or a chosen one), if any."""

    digest: str
    manifest: Manifest
    documents: int
    own_name: str | None = None


def facts(run: Shown) -> dict[str, str | None]:
    """What can tell one run from another, the most telling first; `None` where the manifest does not know.

    >>> known = facts(Shown("", Manifest(split="test"), 64))
    >>> {name: value for name, value in known.items() if value}
    {'Split': 'test', 'Notes': '64'}
    """
    manifest = run.manifest
    policy, tokens, flags = manifest.policy, manifest.tokenization, manifest.flags
    environment, checkpoint = manifest.environment, manifest.checkpoint
    gpu = environment and environment.gpu

    def of(record: object | None, name: str) -> str | None:
        value = getattr(record, name, None)
        return None if value is None else str(value)

    weights = checkpoint and (checkpoint.weights_digest or checkpoint.file_sha256)
    return {
        "Policy": of(policy, "name"),
        "Split": manifest.split,
        "Casing": {True: "lower-cased", False: "cased", None: None}[tokens and tokens.lowercase],
        "Length in tokens": of(tokens, "max_length"),
        "Padding": of(tokens, "padding"),
        "Truncated side": of(tokens, "truncation_side"),
        "Notes": f"{run.documents:,}",
        "Machine": short_gpu(gpu)
        if gpu
        else environment and environment.device and environment.device.upper(),
        "Checkpoint": weights[:12] if weights else None,
        "Weights": checkpoint and checkpoint.state_dict,
        "Attention": of(flags, "attention"),
        "Deterministic": _switch(flags and flags.deterministic_algorithms),
        "TF32, measured": _switch(flags and flags.tf32_measured),
        "Autocast": of(flags, "autocast"),
        "cuDNN benchmark": _switch(flags and flags.cudnn_benchmark),
        "Batch size": of(manifest, "batch_size"),
        "GPU": gpu,
        "CPU": of(environment, "cpu"),
        "torch": of(environment, "torch"),
        "transformers": of(environment, "transformers"),
        "tokenizers": of(environment, "tokenizers"),
        "CUDA": of(environment, "cuda"),
        "cuDNN": of(environment, "cudnn"),
        "Driver": of(environment, "driver"),
        "Python": of(environment, "python"),
    }


IN_A_NAME: Mapping[str, Callable[[str], str]] = {
    "Length in tokens": "{} tokens".format,
    "Padding": lambda value: {"longest": "padded to the longest", "max_length": "padded in full"}.get(
        value, value
    ),
    "Truncated side": "cut on the {}".format,
    "Notes": "{} notes".format,
    "Checkpoint": "weights {}".format,
    "Deterministic": lambda value: "deterministic" if value == "on" else "not deterministic",
    "TF32, measured": "TF32 {}".format,
    "Autocast": "autocast {}".format,
    "cuDNN benchmark": "cuDNN benchmark {}".format,
    "Batch size": "batch {}".format,
    **{
        name: f"{name} {{}}".format
        for name in ("torch", "transformers", "tokenizers", "CUDA", "cuDNN", "Python")
    },
    "Driver": "driver {}".format,
}


def short_names(runs: Sequence[Shown]) -> list[str]:
    """A name for each, by what distinguishes it from the others: unique, and (but for a number) the same in any order.

    A run that has a name of its own keeps it. Others begin with policy and machine; further facts are added where they
    tell runs apart, the beginning of the digest where no fact does, and a number where not even that.

    >>> from shifamind_core.precision.environment import Environment
    >>> from shifamind_core.runs.manifest import PolicyRecord
    >>> gpus = "NVIDIA H100 80GB HBM3", "NVIDIA L4"
    >>> short_names([Shown("", Manifest(policy=PolicyRecord("default"), environment=Environment(gpu=gpu)), 9) for gpu in gpus])
    ['default, H100', 'default, L4']
    """
    known = [facts(run) for run in runs]
    chosen: set[str] = set(NAMED_ALWAYS)

    def names() -> list[str]:
        return [_name(run, one, chosen) for run, one in zip(runs, known, strict=True)]

    distinct = len(set(names()))
    for fact in known[0] if known else ():
        if fact in chosen:
            continue
        chosen.add(fact)
        if (count := len(set(names()))) > distinct:
            distinct = count
        else:
            chosen.remove(fact)
    found = names()
    again = Counter(found)
    found = [
        name if again[name] == 1 else f"{name} · {run.digest[:6]}"
        for name, run in zip(found, runs, strict=True)
    ]
    return _numbered(found)


def differing(runs: Mapping[str, Shown]) -> list[dict[str, str]]:
    """The facts that differ among the runs: one row each, `Setting` and a column for each run's name.

    What one manifest knows and another does not is a row too, with "not recorded": it may differ.
    """
    known = {name: facts(run) for name, run in runs.items()}
    rows = []
    for fact in next(iter(known.values()), {}):
        values = [one[fact] for one in known.values()]
        if len(set(values)) > 1:
            rows.append({"Setting": fact} | {name: one[fact] or NOT_RECORDED for name, one in known.items()})
    return rows


def short_gpu(name: str) -> str:
    """
    >>> [short_gpu(name) for name in ("NVIDIA A100-SXM4-40GB", "Tesla T4", "NVIDIA L40S", "NVIDIA GeForce RTX 4090")]
    ['A100', 'T4', 'L40S', 'GeForce RTX 4090']
    """
    found = GPU_MODEL.search(name)
    return found.group() if found else name.removeprefix("NVIDIA ").strip()


def _name(run: Shown, known: Mapping[str, str | None], chosen: set[str]) -> str:
    if run.own_name:
        return run.own_name
    parts = {fact: value for fact, value in known.items() if fact in chosen and value}
    machine = parts.pop("Machine", None)
    said = [IN_A_NAME.get(fact, str)(value) for fact, value in parts.items()]
    return ", ".join([*said, *([machine] if machine else [])]) or "run"


def _numbered(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _switch(value: bool | None) -> str | None:
    return None if value is None else "on" if value else "off"
