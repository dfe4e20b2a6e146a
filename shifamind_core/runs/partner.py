"""Which validation run goes with a run: the one on which its threshold is tuned."""

from collections.abc import Iterable
from typing import TypeVar

from shifamind_core.runs.entry import CacheEntry
from shifamind_core.runs.manifest import Manifest, flatten
from shifamind_core.runs.run import Run

VALIDATION_SPLITS = ("val", "validation")

# What differs between two runs of one configuration on two splits, or says nothing about their logits.
NOT_CONFIGURATION = (
    "created_at_utc", "split", "documents_of", "codes_of", "validated_by", "duration_seconds", "cache_key",
    "configuration_digest", "notes",
)  # fmt: skip

Candidate = TypeVar("Candidate", Run, CacheEntry)


def validation_partner(run: Run | CacheEntry, candidates: Iterable[Candidate]) -> Candidate | None:
    """The validation run that goes with `run`: the one that a person attached to it, else the first candidate of the
    same configuration.

    Two runs are of one configuration if their `configuration_digest` is the same. Where neither has one (runs
    recorded elsewhere), everything that is known of them but the split must be the same, the checkpoint among
    it; with less known, the answer is `None`, and the person chooses.
    """
    if run.manifest.split in VALIDATION_SPLITS:
        return None
    on_validation = (one for one in candidates if one.manifest.split in VALIDATION_SPLITS)
    if run.manifest.validated_by is not None:
        return next((one for one in on_validation if one.digest == run.manifest.validated_by), None)
    return next(
        (
            one
            for one in on_validation
            if one.codes == run.codes and _one_configuration(run.manifest, one.manifest)
        ),
        None,
    )


def _one_configuration(one: Manifest, other: Manifest) -> bool:
    if one.configuration_digest or other.configuration_digest:
        return one.configuration_digest == other.configuration_digest
    known, other_known = (
        {name: value for name, value in flatten(manifest).items() if name not in NOT_CONFIGURATION}
        for manifest in (one, other)
    )
    same = known == other_known
    return same and any(name.startswith("checkpoint.") for name in known)
