"""Interventions planted by another pipeline (`replay_oracle`), and what replay is to say of each."""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shifamind_core.replay.task import Setup
from shifamind_core.runs.run import Run
from shifamind_core.specs import ReplaySpec
from simulation.builders import tiny_run_directory
from simulation.replay_oracle import Faults, Files, evaluate, read_files

ARCHITECTURES = ("cls_fusion", "concept_attention")
RIGHT = Faults()
# Correlation with the model's own logits. Weights made anew reached 0.12 on these models, whatever the seed; all else
# that is not in the list keeps more, but for noise of a fifth on all weights of the concept attention: 0.04 to 0.06.
FORGOTTEN = 0.1
ROUNDED = 1e-4  # a logit: well above what FP32 does to these models, well below any change

SINGLES: dict[str, dict[str, Any]] = {
    "lowercase=false": {"lowercase": False},
    "max_length=128": {"max_length": 128},
    "max_length=256": {"max_length": 256},
    "max_length=384": {"max_length": 384},
    "padding=longest": {"longest": True},
    "truncation_side=left": {"left": True},
    "special_tokens=none": {"special": False},
    "truncation=head_tail": {"beginning": 128},
    "text=line_ends_deleted": {"rewrite": lambda text: text.replace("\n", "")},
    "text=nfkc": {"rewrite": lambda text: unicodedata.normalize("NFKC", text)},
    "text=ascii": {"rewrite": lambda text: "".join(c for c in text if ord(c) < 128)},
    "text=marks_removed": {"rewrite": lambda text: text.replace("___", "")},
    "text=marks_as_brackets": {"rewrite": lambda text: text.replace("___", "[** **]")},
    "segments=ones": {"segments": "ones"},
    "attention_mask=ignored": {"masked": False},
    "dropout=on": {"training": True},
    "pooling=mean": {"pooling": "mean"},
    "pooling=mean_with_padding": {"pooling": "mean_with_padding"},
    "fusion_order=reversed": {"reversed_fusion": True},
    "encoder=not_loaded": {"encoder": "new"},
    "head=not_loaded": {"head": "new"},
    "concept_embeddings=random": {"concepts": "random"},
    "concept_embeddings=external": {"concepts": "external"},
    "code_order=alphabetical": {"codes": "alphabetical"},
    "code_order=frequency": {"codes": "frequency"},
    "document_order=reversed": {"rows": "reversed"},
    "document_order=permuted": {"rows": "shuffled"},
    "document_order=shifted_by_1": {"rows": "shifted"},
    "output=probabilities": {"output": "probabilities"},
    "output=double_sigmoid": {"output": "double_sigmoid"},
    "checkpoint=run_sibling": {},
}
ROUNDING: dict[str, dict[str, Any]] = {
    "attention=eager": {"attention": "eager"},
    "policy=fp64": {"policy": "fp64"},
    "policy=fp16": {"policy": "fp16"},
    "policy=bf16": {"policy": "bf16"},
    "policy=fp16-autocast": {"policy": "fp16-autocast"},
    "policy=bf16-autocast": {"policy": "bf16-autocast"},
}
UNLISTED: dict[str, dict[str, Any]] = {
    "noise of a third on the logits": {"logit_noise": 0.33},
    "noise of a hundredth on the logits": {"logit_noise": 0.01},
    "noise of a fifth on the weights": {"weight_noise": 0.2},
    "noise of a twentieth on the weights": {"weight_noise": 0.05},
    "max pooling": {"pooling": "max"},
    "the letter e taken out": {"rewrite": lambda text: text.replace("e", "")},
    "every third word taken out": {"rewrite": lambda text: " ".join(w for i, w in enumerate(text.split()) if i % 3)},
    "words in reverse": {"rewrite": lambda text: " ".join(reversed(text.split()))},
}  # fmt: skip
RANDOM = ("dropout=on", "encoder=not_loaded", "head=not_loaded", "concept_embeddings=random")
# Under a mask of ones no position is padding: both means are one.
SAME = ({"attention_mask=ignored", "pooling=mean_with_padding"}, {"attention_mask=ignored", "pooling=mean"})
OF_CONCEPTS = ("concept_embeddings=random", "concept_embeddings=external")


def applies(name: str, architecture: str) -> bool:
    """Whether there is such a thing in this architecture."""
    return architecture == "concept_attention" or name not in OF_CONCEPTS


@dataclass(frozen=True)
class Case:
    """What was planted."""

    names: tuple[str, ...]
    faults: Faults
    sibling: bool = False


def case_of(*names: str) -> Case:
    """Several interventions at once."""
    changes: dict[str, Any] = {}
    for name in names:
        changes |= SINGLES.get(name, {}) | ROUNDING.get(name, {})
    return Case(names, replace(RIGHT, **changes), "checkpoint=run_sibling" in names)


def pairs(architecture: str) -> Iterator[tuple[str, str]]:
    """Every two that can be made together."""
    names = [name for name in SINGLES if applies(name, architecture)]
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if one.split("=")[0] != other.split("=")[0] and not {one, other} <= set(RANDOM):
                yield one, other


@dataclass(frozen=True)
class Expected:
    """What replay must say: one of these verdicts, and just these interventions (some may be named or not).

    `why` says why it is not what was planted.
    """

    verdicts: tuple[str, ...]
    names: frozenset[str]
    may: frozenset[str] = frozenset()
    why: str = ""

    def met_by(self, result: dict[str, Any]) -> bool:
        """Whether a replay's JSON says so."""
        found = set(result["best"]["interventions"])
        if SAME[0] == self.names and found == SAME[1]:
            found = SAME[0]
        return result["verdict"] in self.verdicts and self.names <= found <= self.names | self.may


class Subject:
    """A run directory with a sibling beside it, every weight, note and label decided by `seed`."""

    def __init__(
        self, folder: Path, architecture: str, seed: int, notes: int = 64, codes: int = 12, depth: int = 3
    ) -> None:
        self.architecture, self.seed = architecture, seed
        random = np.random.default_rng(seed)
        for name, own in (("run_own", seed), ("run_sibling", seed + 500)):
            # One attention head in place of four is a fourth of the time.
            run = tiny_run_directory(folder / name, architecture, notes, codes, seed=own, heads=1)
            _as_if_trained(run)
            as_written(run)
            _shuffle_counts(run, random)
            _perturb_concepts(run, random)
        self.own, self.sibling = read_files(folder / "run_own"), read_files(folder / "run_sibling")
        spec = ReplaySpec(str(folder / "run_own"), device="cpu", notes=notes, depth=depth)
        self.setup = Setup(spec, None)
        # A vocabulary alone leaves casing to the library: these are right lower-cased.
        tokenization = replace(self.setup.base.tokenization, lowercase=True)
        self.setup.base = replace(self.setup.base, tokenization=tokenization)

    def reference(self, case: Case, draw: int = 0) -> Run:
        """What the other pipeline saves, as a file without a manifest holds it."""
        files = self.sibling if case.sibling else self.own
        logits = evaluate(files, case.faults, 1000 * self.seed + draw)
        return Run(
            logits,
            "reference",
            codes=tuple(files.codes),
            document_ids=self._ids(files),
        )

    def replay(self, case: Case, draw: int = 0) -> dict[str, Any]:
        """The JSON of a replay among every intervention that there is."""
        return self.setup.reproduce(self.reference(case, draw))

    def expected(self, case: Case) -> Expected:
        """What replay must say of a planted case.

        A name that is planted and moves no logit by more than rounding on these notes, all else equal, is not asked for:
        padding that attention masks and nobody averages over, or a batch that holds a full note anyway.
        """
        rounding = {name for name in case.names if name in ROUNDING}
        names = set(case.names) - rounding
        inert = {name for name in names if len(names) < 3 and self._inert(case, name)}
        left = frozenset(names - inert)
        why = f"{' and '.join(sorted(inert))} moves no logit here by more than rounding" if inert else ""
        if not left:
            return Expected(("identical", "numerics"), left, frozenset(rounding), why)
        drawn = left & set(RANDOM)
        if drawn and left - drawn:
            why = "what was changed beside something random shows only as far as it exceeds the difference of two draws"
        may = frozenset(rounding) | (left - drawn if drawn else frozenset())
        return Expected(("likely",) if drawn else ("confirmed",), drawn or left, may, why)

    def expected_of_unlisted(self, case: Case, draw: int = 0) -> Expected:
        """What replay must say of what no intervention does: nothing, if anything of the model is left.

        Where what was saved resembles the model's own logits no more than weights made anew would, it is like a draw of
        those, and no search could know better: then such a change may be named, as likely.
        """
        own, saved = (
            evaluate(self.own, faults, 1000 * self.seed + draw).ravel() for faults in (RIGHT, case.faults)
        )
        if np.corrcoef(own, saved)[0, 1] > FORGOTTEN:
            return Expected(("unexplained",), frozenset())
        why = "to tell weights that keep nothing of the model (a correlation of at most 0.1 with its logits) from weights made anew"
        return Expected(("unexplained", "likely"), frozenset(), frozenset(RANDOM), why)

    def _inert(self, case: Case, name: str) -> bool:
        if name == "checkpoint=run_sibling":
            return False
        files = self.sibling if case.sibling else self.own
        rest = case_of(*(other for other in case.names if other != name))
        with_it, without = (evaluate(files, one.faults, self.seed) for one in (case, rest))
        return bool(np.abs(with_it - without).max() <= ROUNDED)

    def _ids(self, files: Files) -> np.ndarray:
        own = files is self.own
        pipeline = self.setup.pipelines[None if own else "run_sibling"]
        return pipeline.split("test").document_ids


def _as_if_trained(run: Path) -> None:
    """BERT's own initializer range, which the builder's weights do not have: an untrained encoder is one not loaded."""
    path = run / "base_model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"initializer_range": 0.02}))


def as_written(run: Path) -> None:
    """Notes as hospitals have them: lines, marks where something was taken out, letters beyond ASCII."""
    for path in (run / "shared_data").glob("*_split.pkl"):
        table = pd.read_pickle(path)
        table["text"] = [
            "".join(word + (i % 9 == 8) * "\n" + (i % 9 != 8) * " " + (i % 23 == 5) * "___ " + (i % 31 == 7) * "ﬂu "
                    for i, word in enumerate(text.split()))
            for text in table["text"]
        ]  # fmt: skip
        table.to_pickle(path)


def _shuffle_counts(run: Path, random: np.random.Generator) -> None:
    """The builder's codes stand in the order of frequency: elsewhere they need not."""
    path = run / "shared_data" / "top50_icd10_info.json"
    info = json.loads(path.read_text())
    shuffled = random.permutation(list(info["top_50_counts"].values())).tolist()
    info["top_50_counts"] = dict(zip(info["top_50_codes"], shuffled, strict=True))
    path.write_text(json.dumps(info))


def _perturb_concepts(run: Path, random: np.random.Generator) -> None:
    """Concept embeddings from before training: other than the checkpoint's."""
    path = run / "shared_data" / "concept_embeddings.npy"
    found = np.load(path)
    np.save(path, (found + random.normal(size=found.shape)).astype(np.float32))
