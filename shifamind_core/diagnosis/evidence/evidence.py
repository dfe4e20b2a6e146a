"""What two runs show, side by side: the one thing that every matcher and the cause model look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from shifamind_core.analysis.alignment import AlignedRuns, align
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.evidence.manifests import Provenance, compare_manifests
from shifamind_core.diagnosis.evidence.tokens import Tokens, compare_tokens
from shifamind_core.runs.run import Run


@dataclass(frozen=True, eq=False)
class Evidence:
    """Two runs put side by side, and what is known beside their logits.

    Attributes
    ----------
    aligned : AlignedRuns
        Both runs row by row the same note, as far as anyone knows, and how they were matched.
    whole : (Run, Run)
        Candidate and reference as they came, rows without a partner included.
    manifests : Provenance
        Both manifests, compared.
    ladder : Ladder, optional
        The error of every precision policy, measured on this very model.
    reported : mapping
        Scores said to be the reference's, e.g. ``{"macro_f1@0.5": 0.2934}``.
    """

    aligned: AlignedRuns
    whole: tuple[Run, Run]
    manifests: Provenance
    ladder: Ladder | None = None
    reported: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        candidate: Run,
        reference: Run,
        ladder: Ladder | None = None,
        reported: Mapping[str, float] | None = None,
    ) -> "Evidence":
        """Put two runs side by side.

        Raises
        ------
        NothingInCommon
            Neither ids nor names nor contents say which rows or columns belong together.
        """
        manifests = compare_manifests(candidate.manifest, reference.manifest)
        aligned = align(candidate, reference)
        return cls(aligned, (candidate, reference), manifests, ladder, dict(reported or {}))

    @property
    def candidate(self) -> Run:
        """The candidate's rows and columns that have a partner."""
        return self.aligned.candidate

    @property
    def reference(self) -> Run:
        """The reference's, row by row and column by column the same."""
        return self.aligned.reference

    @cached_property
    def tokens(self) -> Tokens:
        """What token digests and counts say."""
        return compare_tokens(self.candidate, self.reference)
