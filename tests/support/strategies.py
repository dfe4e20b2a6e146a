"""Hypothesis strategies: small runs with what hurts planted in them (ties, absent codes, scores on thresholds)."""

import random

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shifamind_core.analysis.thresholds import CLEAN_GRID, SEED_GRID
from shifamind_core.runs.run import Run

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 6))


def _around(threshold):
    """The FP32 neighbours of a threshold: below, nearest, above, and two away."""
    nearest = np.float32(threshold)
    one_down, one_up = np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(1))
    return [
        nearest,
        one_down,
        one_up,
        np.nextafter(one_down, np.float32(0)),
        np.nextafter(one_up, np.float32(1)),
    ]


PLANTED = [float(score) for grid in (SEED_GRID, CLEAN_GRID) for t in grid for score in _around(t)]
probability_values = st.one_of(
    st.sampled_from(PLANTED), st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 0.5])
)
# Few distinct values on a coarse lattice, so that ties and margins of exactly the same size are common.
lattice_logits = st.integers(-8, 8).map(lambda step: step / 4)
logit_values = st.one_of(lattice_logits, st.floats(-12, 12, width=32))


def probability_matrices(shape):
    return hnp.arrays(np.float32, shape, elements=probability_values)


def label_matrices(shape):
    return hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))


def built(**fields):
    """A `Run`. Its type checker samples tuple items with `random`, which a strategy must leave as it was."""
    state = random.getstate()
    try:
        return Run(**fields)
    finally:
        random.setstate(state)


@st.composite
def scored(draw):
    """Probabilities and labels of one shape."""
    shape = draw(SHAPES)
    return draw(probability_matrices(shape)), draw(label_matrices(shape))


@st.composite
def runs(draw, shape=None, labelled=True, dtype=np.float32):
    """A run with logits, code names and distinct document ids in random order."""
    documents, codes = draw(SHAPES) if shape is None else shape
    logits = draw(hnp.arrays(dtype, (documents, codes), elements=logit_values))
    return built(
        logits=logits,
        name=draw(st.sampled_from(["h100", "a100"])),
        codes=tuple(f"C{i}" for i in range(codes)),
        labels=draw(label_matrices((documents, codes))) if labelled else None,
        document_ids=np.array(draw(st.permutations(range(documents))), np.int64) * 7 - 11,
    )


@st.composite
def run_pairs(draw):
    """Two runs over the same notes and codes, in the same order, each with its own logits."""
    candidate = draw(runs())
    logits = draw(hnp.arrays(np.float32, candidate.logits.shape, elements=logit_values))
    reference = built(
        logits=logits,
        name="reference",
        codes=candidate.codes,
        labels=candidate.labels,
        document_ids=candidate.document_ids,
    )
    return candidate, reference
