"""Where an examination stands: what is left of the difference, with everything found so far undone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.findings import Finding


@dataclass(frozen=True, eq=False)
class Examination:
    """The evidence, the logits with everything found so far undone, and the findings.

    Attributes
    ----------
    evidence : Evidence
    logits : Pair
        Finite logits of both runs, as far as they are explained brought back to each other.
    left : float
        Share of the squared difference that no finding accounts for yet.
    findings : tuple of Finding
    partner : int64 [documents], optional
        The row order that was undone: row in the reference, or -1.
    """

    evidence: Evidence
    logits: Pair
    left: float = 1.0
    findings: tuple[Finding, ...] = ()
    partner: np.ndarray | None = None

    @property
    def explained(self) -> bool:
        """Nothing is left that differs."""
        return not self.logits.difference.any()

    def found(self, logits: Pair, finding: Finding) -> "Examination":
        """This finding noted and undone: `finding.share` is the part of the *remaining* difference that is gone.

        The finding is kept with its share of the whole difference.
        """
        whole = finding.changed(share=finding.share * self.left)
        return replace(
            self, logits=logits, left=self.left * (1 - finding.share), findings=(*self.findings, whole)
        )

    def noted(self, *findings: Finding) -> "Examination":
        """The same with more findings, nothing undone."""
        return replace(self, findings=(*self.findings, *findings))

    def finding(self, cause: str) -> Finding | None:
        """The finding on a cause, unless there is none or it was ruled out."""
        return next((f for f in self.findings if f.cause == cause and f.status != "ruled_out"), None)


# A matcher explains a part of the difference exactly, or says why it does not, and hands on what is left.
Matcher: TypeAlias = Callable[[Examination], Examination]
