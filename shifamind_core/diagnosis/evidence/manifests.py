"""Two manifests compared field by field: what each difference can explain, and what it cannot.

A difference between manifests is a lead, never a verdict: it says what to look for in the logits. "The GPU
differs" is no cause at all; what another GPU does to FP32 logits is measured, and small.
"""

from dataclasses import dataclass
from typing import Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from shifamind_core.artifacts.hazards import HAZARDS, VersionHazard
from shifamind_core.diagnosis.findings import Cause
from shifamind_core.runs.manifest import Manifest, flatten

Weight = Literal["decides", "may", "cannot"]


@dataclass(frozen=True)
class FieldRule:
    """What a differing manifest field means: `prefix` of its dotted name, longest match first."""

    prefix: str
    weight: Weight
    causes: tuple[Cause, ...]
    can_explain: str
    cannot_explain: str


NOTHING = "any difference between logits"
SMALL = "a gap in F1: FP32 in another order moves a logit by about 1e-6 of its spread"

RULES: tuple[FieldRule, ...] = (
    FieldRule(
        "checkpoint.weights_digest",
        "decides",
        ("other_checkpoint", "weights_changed"),
        "everything: these are other weights",
        "notes that did not change at all",
    ),
    FieldRule(
        "checkpoint.architecture",
        "decides",
        ("other_checkpoint",),
        "everything: this is another model",
        "notes that did not change at all",
    ),
    FieldRule(
        "checkpoint.file_sha256",
        "may",
        ("other_checkpoint",),
        "other weights, or the same weights saved again: the weights digest tells",
        "anything, if the weights digests are equal",
    ),
    FieldRule(
        "checkpoint.",
        "may",
        ("other_checkpoint", "weights_changed"),
        "another epoch or run, if the weights digests differ too",
        "anything, if the weights digests are equal",
    ),
    FieldRule(
        "tokenization.lowercase_requested",
        "may",
        ("tokenizer_casing",),
        "other tokens in nearly every note, if the effective casing differs",
        "anything, if the effective casing is the same",
    ),
    FieldRule(
        "tokenization.lowercase",
        "decides",
        ("tokenizer_casing", "input_changed"),
        "other tokens wherever a note has capitals, and so in nearly every note; lost ranking",
        "notes without capitals that changed",
    ),
    FieldRule(
        "tokenization.max_length",
        "decides",
        ("max_length", "input_changed"),
        "changes in notes longer than the shorter limit, and padding that differs for the others",
        "changes in short notes where padding reaches no logit",
    ),
    FieldRule(
        "tokenization.padding",
        "decides",
        ("padding",),
        "changes in short notes of the concept attention architecture, whose gate averages over padding",
        "changes in notes that fill the length, or in the CLS fusion architecture",
    ),
    FieldRule(
        "tokenization.truncation_side",
        "decides",
        ("truncation_side", "input_changed"),
        "changes in notes longer than the limit",
        "changes in notes that fit",
    ),
    FieldRule(
        "tokenization.",
        "may",
        ("input_changed", "tokenizer_casing"),
        "other token ids; token digests tell",
        "anything, if the token digests are equal",
    ),
    FieldRule(
        "split",
        "may",
        ("different_documents", "different_labels"),
        "other notes or labels",
        "anything, if document ids and labels are equal",
    ),
    FieldRule(
        "documents_of",
        "may",
        ("different_documents",),
        "another part of the split",
        "anything in the notes that both runs hold",
    ),
    FieldRule(
        "policy.",
        "may",
        ("numerics",),
        "rounding of that precision, as the ladder measures it on this model",
        "more than that: see the observed flags and the ladder",
    ),
    FieldRule(
        "flags.threads",
        "may",
        ("numerics",),
        "sums in another order on a CPU: FP32 rounding",
        SMALL,
    ),
    FieldRule(
        "flags.",
        "may",
        ("numerics",),
        "rounding of the precision observed",
        "more than the ladder measures for that precision",
    ),
    FieldRule(
        "environment.transformers",
        "may",
        ("tokenizer_casing", "input_changed"),
        "other tokens, where the version decides about casing or normalization",
        "other logits from the same tokens: the model's own code gives equal bits",
    ),
    FieldRule(
        "environment.tokenizers",
        "may",
        ("input_changed",),
        "other tokens; token digests tell",
        "other logits from the same tokens",
    ),
    FieldRule("environment.gpu", "may", ("numerics",), "sums in another order: FP32 rounding", SMALL),
    FieldRule("environment.compute_capability", "may", ("numerics",), "other kernels: FP32 rounding", SMALL),
    FieldRule(
        "environment.multiprocessors",
        "may",
        ("numerics", "dropout_active"),
        "other kernels, and other random numbers from the same seed wherever anything is random",
        SMALL,
    ),
    FieldRule("environment.device", "may", ("numerics",), "sums in another order: FP32 rounding", SMALL),
    FieldRule(
        "environment.torch",
        "may",
        ("numerics",),
        "other kernels and defaults (TF32 for matrix products was on before 1.12)",
        "more than the observed flags' precision",
    ),
    FieldRule("environment.cuda", "may", ("numerics",), "other kernels: FP32 rounding", SMALL),
    FieldRule("environment.cudnn", "may", ("numerics",), "another attention kernel: FP32 rounding", SMALL),
    FieldRule("environment.driver", "cannot", (), "nothing by itself", NOTHING),
    FieldRule("environment.", "cannot", (), "nothing by itself", NOTHING),
    FieldRule(
        "batch_size",
        "may",
        ("numerics", "padding"),
        "FP32 rounding; and, where batches are padded to their longest note, other padding",
        "changes under fixed padding beyond rounding",
    ),
    FieldRule(
        "logits_from_probabilities",
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


@dataclass(frozen=True)
class ManifestDifference:
    """A field that both manifests know and that differs."""

    field: str
    candidate: Any
    reference: Any
    weight: Weight
    causes: tuple[Cause, ...]
    can_explain: str
    cannot_explain: str

    @property
    def sentence(self) -> str:
        """The difference in words."""
        return (
            f"{self.field}: {self.candidate} in the candidate, {self.reference} in the reference. It can explain "
            f"{self.can_explain}; it cannot explain {self.cannot_explain}."
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
    """

    differences: tuple[ManifestDifference, ...]
    equal: frozenset[str]
    unknown: tuple[str, ...]
    hazards: tuple[HazardMet, ...]

    def differs(self, field: str) -> bool:
        """Do both know this field, and disagree?"""
        return any(difference.field == field for difference in self.differences)


def compare_manifests(candidate: Manifest, reference: Manifest) -> Provenance:
    """Compare two manifests field by field. What one does not know is unknown, not different."""
    mine, theirs = (
        {name: value for name, value in flatten(manifest).items() if name not in IGNORED}
        for manifest in (candidate, reference)
    )
    both = sorted(mine.keys() & theirs.keys())
    differences = [_difference(name, mine[name], theirs[name]) for name in both if mine[name] != theirs[name]]
    order: dict[Weight, int] = {"decides": 0, "may": 1, "cannot": 2}
    return Provenance(
        tuple(sorted(differences, key=lambda difference: order[difference.weight])),
        frozenset(name for name in both if mine[name] == theirs[name]),
        tuple(sorted(mine.keys() ^ theirs.keys())),
        hazards_between(candidate, reference),
    )


def _difference(name: str, candidate: Any, reference: Any) -> ManifestDifference:
    rules = [rule for rule in RULES if name.startswith(rule.prefix)]
    rule = max(rules, key=lambda rule: len(rule.prefix), default=None)
    if rule is None:
        return ManifestDifference(name, candidate, reference, "cannot", (), "nothing by itself", NOTHING)
    return ManifestDifference(
        name, candidate, reference, rule.weight, rule.causes, rule.can_explain, rule.cannot_explain
    )


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
