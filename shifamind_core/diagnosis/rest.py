"""What is left once order, scale and calibration are undone: where it sits, and what its shape says."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shifamind_core.diagnosis import dense
from shifamind_core.diagnosis.dense import Shape
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.exact import output_scale, subsets
from shifamind_core.diagnosis.exact.stored_precision import Level, Rounding, Rungs, allowed_level, rounding
from shifamind_core.diagnosis.exact.stored_precision import decimals as decimals_of
from shifamind_core.diagnosis.exact.stored_precision import lattice as lattice_of
from shifamind_core.diagnosis.exact.subsets import Changed, InputLimits
from shifamind_core.diagnosis.findings import (
    Cause,
    EvidencePlot,
    EvidenceTable,
    Finding,
    Series,
    ruled_out,
    thinned,
)
from shifamind_core.diagnosis.undo import State

LEAST = 0.04  # probability below which a cause is ruled out
FEW_NOTES = 50  # at which a shape is believed by half
EXCLUDED = 10.0  # odds (logarithm) against a cause that something beside the logits rules out

CONFIRM: dict[str, str] = {
    "numerics": "Run the precision ladder on this model, then predict both under policy fp32 or fp64.",
    "dropout_active": "Predict twice: with dropout on, two runs differ. Call model.eval() before predicting.",
    "input_changed": "Compare the token digests of both runs note by note; replay casing, length and special tokens.",
    "weights_changed": "Compare the weights digests of both checkpoints.",
    "head_not_loaded": "Load the checkpoint strictly (strict=True) and list missing and unexpected keys.",
    "encoder_not_loaded": "Load the checkpoint strictly (strict=True) and list missing and unexpected keys.",
    "different_documents": "Export document ids with the logits: they show which notes both runs hold.",
    "unknown": "Replay the pipeline with one change at a time, and compare layers.",
}


@dataclass(frozen=True)
class Known:
    """What is known beside the logits.

    Attributes
    ----------
    lattices, written : grid and decimals of the stored values
    ladder : measured errors of the precision policies on this model
    limits : lengths and padding
    odds : logarithms of the odds that ids, token digests and manifests give a cause, as `dense.shares` takes them
    allowed : the coarsest precision that the manifests vouch for
    """

    lattices: tuple
    written: int | None
    ladder: Rungs
    limits: InputLimits
    odds: Mapping[Cause, float] = field(default_factory=dict)
    allowed: Level | None = None

    @classmethod
    def of(
        cls, state: State, ladder: Rungs, limits: InputLimits, odds: Mapping[Cause, float] | None = None
    ) -> "Known":
        """Read the lattices off the values as they were stored."""
        runs = (state.candidate.logits, state.reference.logits)
        lattices = tuple(lattice_of(logits) for logits in runs)
        decimals = [
            decimals_of(logits) for logits, lattice in zip(runs, lattices, strict=True) if lattice is None
        ]
        return cls(
            lattices,
            min((places for places in decimals if places), default=None),
            tuple(ladder),
            limits,
            odds or {},
            allowed_level(state.candidate.manifest, state.reference.manifest),
        )


def examine_rest(state: State, known: Known) -> State:
    """Findings on what is left: nothing, some codes, some notes, or everything."""
    pair = state.pair
    if not pair.difference.any():
        return state
    tiny = rounding(pair, known.lattices, known.written, known.ladder, known.allowed)
    if float(pair.note_size.max()) <= tiny.limit and tiny.level == "fp32":
        return state.noted(_rounding_finding(tiny, 0.99, state))
    codes = subsets.changed_items(pair.code_size)
    if codes is not None and codes.share <= 0.5:
        return _some_codes(state, codes, known)
    notes = subsets.changed_items(pair.note_size)
    if notes is not None:
        return _some_notes(state, notes, known)
    shifted = subsets.shifted_codes(pair)
    if shifted is not None and _rounding_sized(pair.select(codes=~shifted.changed), known):
        return _some_codes(state, shifted, known)
    return _everything(state, known)


def _rounding_sized(pair: Pair, known: Known) -> bool:
    """No larger than rounding: then codes that stand out are a fault of their own, and not of other weights."""
    what = rounding(pair, known.lattices, known.written, known.ladder, known.allowed)
    return what.size <= (what.limit if what.measured else max(what.limit, dense.NOISE))


def _some_codes(state: State, found: Changed, known: Known) -> State:
    pair = state.pair
    share = _share_of(pair, found.changed, axis=0)
    names = state.reference.codes or state.candidate.codes
    finding = subsets.few_codes_finding(pair, found, names, state.left * share)
    recalibrated = _recalibrated(pair.select(codes=found.changed), state.left * share)
    state = state.found(pair.select(codes=~found.changed), finding, share)
    return _look_again(state.noted(*recalibrated), known)


def _recalibrated(changed: Pair, share: float) -> list[Finding]:
    """Whether the codes that changed kept their ranking."""
    found = output_scale.calibration(changed)
    if found is None:
        return []
    return [output_scale.calibration_finding(found, changed, share).changed(score=0.5 + 0.3 * share)]


def _some_notes(state: State, found: Changed, known: Known) -> State:
    pair = state.pair
    share = _share_of(pair, found.changed, axis=1)
    pattern = subsets.length_pattern(pair, found)
    findings = [subsets.few_documents_finding(pair, found, state.left * share)]
    if pattern is not None:
        findings = [findings[0].changed(score=0.44, status="possible")]
        findings += subsets.length_findings(pair, found, pattern, known.limits)
    elif (padding := subsets.short_notes_only(pair, found)) is not None:
        findings.append(padding)
    findings.append(_input_finding(found, pattern is not None))
    spared = f"{1 - found.share:.1%} of the notes did not change, and"
    findings += [
        ruled_out("dropout_active", f"{spared} dropout spares none.", unchanged=1 - found.share),
        ruled_out("weights_changed", f"{spared} other weights spare none.", unchanged=1 - found.share),
        ruled_out("head_not_loaded", f"{spared} another head spares none.", unchanged=1 - found.share),
    ]
    state = state.found(pair.select(notes=~found.changed), findings[0], share).noted(*findings[1:])
    return _look_again(state, known)


def _input_finding(found: Changed, explained: bool) -> Finding:
    """Some notes exactly as before and the others far off: the way of an input that changed for those."""
    score = 0.47 if explained else 0.93 if found.share > 0.5 else 0.57 if found.share > 0.25 else 0.4
    return Finding(
        "input_changed",
        "likely" if score >= 0.5 else "possible",
        score,
        f"{1 - found.share:.1%} of the notes stay within {found.floor:.1e} spreads while the others change by "
        f"{found.ceiling:.2g}: weights and dropout would move all of them, another input only those it concerns.",
        CONFIRM["input_changed"],
        {"unchanged": 1 - found.share, "size_of_changed": found.ceiling, "size_of_others": found.floor},
    )


def _look_again(state: State, known: Known) -> State:
    """What the part that did not change shows: rounding, if anything."""
    pair = state.pair
    if not pair.difference.any() or not pair.documents:
        return state
    what = rounding(pair, known.lattices, known.written, known.ladder, known.allowed)
    if what.size <= what.limit:
        return state.noted(_rounding_finding(what, 0.9, state))
    return _everything(state, known)


def _share_of(pair: Pair, changed: np.ndarray, axis: int) -> float:
    squares = pair.squares.sum(axis=axis)
    return float(squares[changed].sum() / squares.sum())


def _everything(state: State, known: Known) -> State:
    """A dense change: probabilities of each cause by its shape."""
    shape = dense.shape_of(state.pair)
    what = rounding(state.pair, known.lattices, known.written, known.ladder, known.allowed)
    others = dense.shares(shape, known.odds)
    if not what.measured:
        what = replace(what, limit=_limit(what, shape, others["dropout_active"], known.allowed))
    shares = probabilities_of(shape, what, others, known.odds)
    if max(shares, key=lambda cause: shares[cause]) == "weights_changed":
        state = _with_weights_for_calibration(state, shares["weights_changed"])
    findings = []
    for cause, probability in sorted(shares.items(), key=lambda item: -item[1]):
        if cause == "numerics":
            findings.append(_rounding_finding(what, probability, state))
        elif probability < LEAST:
            findings.append(ruled_out(cause, _reason(cause, shape), **shape.numbers()))
        else:
            findings.append(_shape_finding(cause, probability, shape, state))
    findings = _rounding_last(findings)
    if max(shares.values()) < 0.4:
        findings.append(
            Finding("unknown", "possible", 0.2, "No cause stands out.", CONFIRM["unknown"], shape.numbers())
        )
    return state.noted(*findings)


def _with_weights_for_calibration(state: State, probability: float) -> State:
    """Other weights shift and stretch the logits too: where they explain the rest, calibration is theirs.

    Nothing else that is left would: dropout, rounding and other input do not recalibrate.
    """
    calibration = state.finding("calibration_shift")
    if calibration is None:
        return state
    explained = float(calibration.evidence["explained"])
    others = tuple(finding for finding in state.findings if finding is not calibration)
    told = "What is left is as other weights leave it, and they would shift logits as well."
    calibration = calibration.changed(
        status="possible",
        score=min(calibration.score, 0.45, 0.9 * probability),
        explanation=f"{calibration.explanation} {told}",
    )
    return replace(state, findings=(*others, calibration), left=state.left + explained)


def _rounding_last(findings: list[Finding]) -> list[Finding]:
    """Rounding that is not likely stands behind what may have been planted in its size."""
    others = max((finding.score for finding in findings if finding.cause != "numerics"), default=0.0)
    return [
        finding.changed(score=min(finding.score, others - 0.01))
        if finding.cause == "numerics" and finding.score < 0.5 and others > 0.01
        else finding
        for finding in findings
    ]


def _limit(what: Rounding, shape: Shape, noise: float, allowed: Level | None) -> float:
    """How large rounding may be on a model on which it was not measured.

    More where the change has the shape of amplified rounding. And where it is noise inside the model: that is
    rounding or dropout, and dropout is never that small, unless both manifests vouch for a precision.
    """
    limit = what.limit * dense.amplified(shape)
    if allowed is None and limit < dense.NOISE:
        limit = limit ** (1 - noise) * dense.NOISE**noise
    return limit


def probabilities_of(
    shape: Shape, what: Rounding, shares: Mapping[Cause, float], odds: Mapping[Cause, float]
) -> dict[Cause, float]:
    """Probabilities of the causes of a dense change: rounding, and the `shares` of the others."""
    # That the arithmetic differed speaks for rounding only as far as rounding reaches.
    vouched = odds.get("numerics", 0.0) if what.size <= what.limit else 0.0
    for_rounding = dense.odds_of_rounding(shape, what.size, what.limit) + vouched
    rounded = float(1 / (1 + np.exp(-for_rounding)))
    believed = shape.notes / (shape.notes + FEW_NOTES) * dense.code_weight(shape.codes)
    open_ones = [cause for cause in shares if odds.get(cause, 0.0) > -EXCLUDED]
    weighed: dict[Cause, float] = {
        cause: (1 - rounded) * (believed * share + (1 - believed) / len(open_ones) * (cause in open_ones))
        for cause, share in shares.items()
    }
    return {"numerics": rounded, **weighed}


def _scaled(probability: float, left: float) -> float:
    """Score of a cause that accounts for a part of the difference only."""
    return 0.5 + (probability - 0.5) * left if probability >= 0.5 else probability * (0.3 + 0.7 * left)


def _shape_finding(cause: Cause, probability: float, shape: Shape, state: State) -> Finding:
    return Finding(
        cause,
        "likely" if probability >= 0.5 else "possible",
        _scaled(probability, state.left),
        _reason(cause, shape),
        CONFIRM[cause],
        {"probability": probability, **shape.numbers()},
        _cells(state.pair),
    )


def _cells(pair: Pair) -> EvidencePlot:
    x, y = thinned(pair.reference.ravel(), pair.difference.ravel())
    return EvidencePlot(
        "scatter", "Change against the logit", "reference", "difference", (Series("cells", x, y),)
    )


def _reason(cause: Cause, shape: Shape) -> str:
    size = f"Logits change by {shape.size:.2g} spreads (median r {shape.correlation:.3f} a code)"
    predicted = f"the other codes predict {max(shape.predicted, 0):.1%} of the change"
    spread = f"it spreads over the codes {shape.evenness:.2f} times as evenly as logits do"
    along = f"grows along the directions in which notes differ with exponent {shape.along:.2f}"
    return {
        "dropout_active": f"{size}; {predicted} (noise: 0 %) and {spread} (noise inside the model: 1.5 and more).",
        "input_changed": f"{size}; the change {along} and {spread} (another note: 1 and 1), and {predicted}.",
        "weights_changed": f"{size}; {predicted} (other weights act alike on every note: 9 % and more).",
        "head_not_loaded": f"{size}, yet all codes together predict {max(shape.predicted, 0):.1%} of what is left: the same "
        "hidden states, read by another head.",
        "encoder_not_loaded": f"{size}; the candidate's logits spread {shape.spread_ratio:.3f} times as far as the "
        f"reference's, and {predicted}.",
        "different_documents": f"{size}; spreads are alike (ratio {shape.spread_ratio:.2f}), but no note resembles its "
        f"row and {predicted}.",
    }.get(cause, size + ".")


def _rounding_finding(what: Rounding, probability: float, state: State) -> Finding:
    """Rounding, with its level; confirmed only where rounding one run gives the other bit by bit."""
    lattice_differs = what.lattices[0] != what.lattices[1]
    confirmed = what.stored_only and state.left > 0.5
    if confirmed:
        probability = 0.99
    if probability < LEAST and not lattice_differs:
        return ruled_out("numerics", _rounding_reason(what), **_rounding_evidence(what))
    score = _scaled(probability, state.left)
    if lattice_differs and probability < 0.5:
        score = max(score, 0.25)
    return Finding(
        "numerics",
        "confirmed" if confirmed else "likely" if score >= 0.5 else "possible",
        score,
        _rounding_reason(what),
        CONFIRM["numerics"],
        {"probability": probability, **_rounding_evidence(what)},
        _cells(state.pair),
    )


def _rounding_reason(what: Rounding) -> str:
    limit = "measured on this model" if what.measured else "at most, on ill-conditioned models"
    told = f"What is left measures {what.size:.2g} spreads; {what.level.upper()} reaches {what.limit:.2g} ({limit})."
    for side, lattice in zip(("candidate", "reference"), what.lattices, strict=True):
        if lattice is not None:
            told += f" Every value of the {side} lies on the {lattice.upper()} lattice."
    if what.stored_only:
        told += " Rounding the finer run gives the coarser one bit by bit."
    if what.rounded_to_decimals is not None:
        told += f" Values were written with {what.rounded_to_decimals} decimals."
    return told


def _rounding_evidence(what: Rounding) -> dict:
    return {
        "level": what.level,
        "lattice_candidate": what.lattices[0],
        "lattice_reference": what.lattices[1],
        "size": what.size,
        "limit": what.limit,
        "limit_measured": what.measured,
        "stored_only": what.stored_only,
        "decimals": what.rounded_to_decimals,
    }


def sizes_table(pair: Pair) -> EvidenceTable:
    """Percentiles of the absolute difference."""
    levels = (50.0, 90.0, 99.0, 100.0)
    values = np.percentile(np.abs(pair.difference), levels)
    return EvidenceTable(
        "Absolute differences", ("percentile", "logit"), tuple(zip(levels, values.tolist(), strict=True))
    )
