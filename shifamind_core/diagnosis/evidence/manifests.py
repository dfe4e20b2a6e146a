"""Two manifests compared field by field: what each difference can explain, and what it cannot.

A difference between manifests is a lead, never a verdict: it says what to look for in the logits. "The GPU
differs" is no cause at all; how far another GPU can move this model's logits, the precision ladder measures.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from shifamind_core.artifacts.hazards import HAZARDS, VersionHazard
from shifamind_core.diagnosis.evidence.weight_parts import WeightParts, compare_parts
from shifamind_core.runs.manifest import Manifest, flatten

Weight = Literal["decides", "may", "cannot"]


@dataclass(frozen=True)
class FieldRule:
    """What a differing manifest field means: `prefix` of its dotted name, longest match first; `title` as people say it
    (empty: the field's own name)."""

    prefix: str
    title: str
    weight: Weight
    causes: tuple[str, ...]
    can_explain: str
    cannot_explain: str


NOTHING = "any difference between logits"
SMALL = "more than rounding; how much that is on this model, the precision ladder measures"

RULES: tuple[FieldRule, ...] = (
    FieldRule(
        "checkpoint.weights_digest",
        "Weights",
        "decides",
        ("other_checkpoint", "weights_changed"),
        "everything: these are other weights",
        "notes that did not change at all",
    ),
    FieldRule(
        "checkpoint.architecture",
        "Architecture",
        "decides",
        ("other_checkpoint",),
        "everything: this is another model",
        "notes that did not change at all",
    ),
    FieldRule(
        "checkpoint.file_sha256",
        "Checkpoint file",
        "may",
        ("other_checkpoint",),
        "other weights, or the same weights saved again: the weights digest tells",
        "anything, if the weights digests are equal",
    ),
    FieldRule(
        "checkpoint.",
        "",
        "may",
        ("other_checkpoint", "weights_changed"),
        "another epoch or run, if the weights digests differ too",
        "anything, if the weights digests are equal",
    ),
    FieldRule(
        "tokenization.lowercase_requested",
        "Lower-casing asked for",
        "may",
        ("tokenizer_casing",),
        "other tokens in nearly every note, if the effective casing differs",
        "anything, if the effective casing is the same",
    ),
    FieldRule(
        "tokenization.lowercase",
        "Lower-casing",
        "decides",
        ("tokenizer_casing", "input_changed"),
        "other tokens wherever a note has capitals, and so in nearly every note; lost ranking",
        "notes without capitals that changed",
    ),
    FieldRule(
        "tokenization.max_length",
        "Maximum length",
        "decides",
        ("max_length", "input_changed"),
        "changes in notes longer than the shorter limit, and padding that differs for the others",
        "changes in short notes where padding reaches no logit",
    ),
    FieldRule(
        "tokenization.padding",
        "Padding",
        "decides",
        ("padding",),
        "changes in short notes of the concept attention architecture, whose gate averages over padding",
        "changes in notes that fill the length, or in the CLS fusion architecture",
    ),
    FieldRule(
        "tokenization.truncation_side",
        "Side at which long notes are cut",
        "decides",
        ("truncation_side", "input_changed"),
        "changes in notes longer than the limit",
        "changes in notes that fit",
    ),
    FieldRule(
        "tokenization.",
        "",
        "may",
        ("input_changed", "tokenizer_casing"),
        "other token ids; token digests tell",
        "anything, if the token digests are equal",
    ),
    FieldRule(
        "split",
        "Split",
        "may",
        ("different_documents", "different_labels"),
        "other notes or labels",
        "anything, if document ids and labels are equal",
    ),
    FieldRule(
        "documents_of",
        "Notes in the split",
        "may",
        ("different_documents",),
        "another part of the split",
        "anything in the notes that both runs hold",
    ),
    FieldRule(
        "policy.",
        "",
        "may",
        ("numerics",),
        "rounding of that precision, as the ladder measures it on this model",
        "more than that: see the observed flags and the ladder",
    ),
    FieldRule(
        "flags.threads",
        "CPU threads",
        "may",
        ("numerics",),
        "sums in another order on a CPU: FP32 rounding",
        SMALL,
    ),
    FieldRule(
        "flags.",
        "",
        "may",
        ("numerics",),
        "rounding of the precision observed",
        "more than the ladder measures for that precision",
    ),
    FieldRule(
        "environment.transformers",
        "Version of transformers",
        "may",
        ("tokenizer_casing", "input_changed"),
        "other tokens, where the version decides about casing or normalization",
        "other logits from the same tokens: the model's own code gives equal bits",
    ),
    FieldRule(
        "environment.tokenizers",
        "Version of tokenizers",
        "may",
        ("input_changed",),
        "other tokens; token digests tell",
        "other logits from the same tokens",
    ),
    FieldRule("environment.gpu", "GPU", "may", ("numerics",), "sums in another order: FP32 rounding", SMALL),
    FieldRule(
        "environment.compute_capability",
        "GPU generation (compute capability)",
        "may",
        ("numerics",),
        "other kernels: FP32 rounding",
        SMALL,
    ),
    FieldRule(
        "environment.multiprocessors",
        "Multiprocessors of the GPU",
        "may",
        ("numerics", "dropout_active"),
        "other kernels, and other random numbers from the same seed wherever anything is random",
        SMALL,
    ),
    FieldRule(
        "environment.device", "Device", "may", ("numerics",), "sums in another order: FP32 rounding", SMALL
    ),
    FieldRule(
        "environment.torch",
        "Version of torch",
        "may",
        ("numerics",),
        "other kernels and defaults (TF32 for matrix products was on before 1.12)",
        "more than the observed flags' precision",
    ),
    FieldRule(
        "environment.cuda", "Version of CUDA", "may", ("numerics",), "other kernels: FP32 rounding", SMALL
    ),
    FieldRule(
        "environment.cudnn",
        "Version of cuDNN",
        "may",
        ("numerics",),
        "another attention kernel: FP32 rounding",
        SMALL,
    ),
    FieldRule("environment.driver", "GPU driver", "cannot", (), "nothing by itself", NOTHING),
    FieldRule("environment.", "", "cannot", (), "nothing by itself", NOTHING),
    FieldRule(
        "batch_size",
        "Batch size",
        "may",
        ("numerics", "padding"),
        "FP32 rounding; and, where batches are padded to their longest note, other padding",
        "changes under fixed padding beyond rounding",
    ),
    FieldRule(
        "logits_from_probabilities",
        "Scores made from probabilities",
        "may",
        ("probabilities_as_logits", "double_sigmoid", "numerics"),
        "rounding of large logits, and a sigmoid too many",
        "lost ranking",
    ),
)

# Of times, places and names: never decide a logit.
IGNORED = (
    "created_at_utc",
    "duration_seconds",
    "producer",
    "cache_key",
    "configuration_digest",
    "run_directory",
    "notes",
    "policy.name",
    "policy.description",
    "batch_size_requested",
)
# Compared part by part (`weight_parts`), and said with the digest of all weights.
PARTS = ("checkpoint.part_digests.", "checkpoint.base_model_digests.", "checkpoint.untrained_parts")


@dataclass(frozen=True)
class ManifestDifference:
    """A field that both manifests know and that differs."""

    field: str
    title: str
    candidate: Any
    reference: Any
    weight: Weight
    causes: tuple[str, ...]
    can_explain: str
    cannot_explain: str

    @property
    def sentence(self) -> str:
        """The difference in words."""
        return (
            f"{self.title}: {_said(self.candidate)} in the candidate, {_said(self.reference)} in the reference. It can "
            f"explain {self.can_explain}; it cannot explain {self.cannot_explain}."
        )


@dataclass(frozen=True)
class HazardMet:
    """A known version hazard under which one run was made and the other not."""

    hazard: VersionHazard
    candidate: str
    reference: str


@dataclass(frozen=True)
class Provenance:
    """What two manifests say of each other.

    Attributes
    ----------
    differences : fields that both know and that differ, the deciding ones first
    equal : fields that both know and that agree
    unknown : fields that only one knows
    hazards : version hazards that divide the two
    parts : which parts of the weights differ, where both record them
    """

    differences: tuple[ManifestDifference, ...]
    equal: frozenset[str]
    unknown: tuple[str, ...]
    hazards: tuple[HazardMet, ...]
    parts: WeightParts | None = None

    def differs(self, field: str) -> bool:
        """Do both know this field, and disagree?"""
        return self.difference(field) is not None

    def difference(self, field: str) -> ManifestDifference | None:
        """How this field differs; `None` where it agrees or one run does not know it."""
        return next((difference for difference in self.differences if difference.field == field), None)


def compare_manifests(candidate: Manifest, reference: Manifest) -> Provenance:
    """Compare two manifests field by field. What one does not know is unknown, not different."""
    mine, theirs = (
        {
            name: value
            for name, value in flatten(manifest).items()
            if name not in IGNORED and not name.startswith(PARTS)
        }
        for manifest in (candidate, reference)
    )
    both = sorted(mine.keys() & theirs.keys())
    differences = [_difference(name, mine[name], theirs[name]) for name in both if mine[name] != theirs[name]]
    parts = compare_parts(candidate.checkpoint, reference.checkpoint)
    if parts is not None and parts.other:
        differences = [_by_parts(difference, parts) for difference in differences]
    order: dict[Weight, int] = {"decides": 0, "may": 1, "cannot": 2}
    return Provenance(
        tuple(sorted(differences, key=lambda difference: order[difference.weight])),
        frozenset(name for name in both if mine[name] == theirs[name]),
        tuple(sorted(mine.keys() ^ theirs.keys())),
        hazards_between(candidate, reference),
        parts,
    )


def _by_parts(difference: ManifestDifference, parts: WeightParts) -> ManifestDifference:
    if difference.field != "checkpoint.weights_digest":
        return difference
    return replace(difference, can_explain=f"{difference.can_explain} ({parts.said})")


def _difference(name: str, candidate: Any, reference: Any) -> ManifestDifference:
    rules = [rule for rule in RULES if name.startswith(rule.prefix)]
    rule = max(rules, key=lambda rule: len(rule.prefix), default=None)
    title = (rule.title if rule else "") or name.rpartition(".")[2].replace("_", " ").capitalize()
    if rule is None:
        return ManifestDifference(
            name, title, candidate, reference, "cannot", (), "nothing by itself", NOTHING
        )
    return ManifestDifference(
        name, title, candidate, reference, rule.weight, rule.causes, rule.can_explain, rule.cannot_explain
    )


def _said(value: Any) -> str:
    """A value in words: yes and no, digests by their first letters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def hazards_between(candidate: Manifest, reference: Manifest) -> tuple[HazardMet, ...]:
    """Hazards whose versions one run was made under and the other was not."""
    met = []
    for hazard in HAZARDS:
        versions = [_version(manifest, hazard.library) for manifest in (candidate, reference)]
        if versions[0] is None or versions[1] is None:
            continue
        inside = [
            SpecifierSet(hazard.versions).contains(version, prereleases=True)
            for version in versions
            if version
        ]
        if inside[0] != inside[1]:
            met.append(HazardMet(hazard, str(versions[0]), str(versions[1])))
    return tuple(met)


def _version(manifest: Manifest, library: str) -> Version | None:
    text = getattr(manifest.environment, library, None) if manifest.environment else None
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None
