"""What a planted fault leaves in a part of the notes and codes."""

from itertools import pairwise

import numpy as np

from simulation.arithmetic import EMULATED
from simulation.corpus import Faulty
from simulation.fleet import Plan, plans
from simulation.judged import drowned


def faulty() -> Faulty:
    """Rounding everywhere, and one of ten codes shifted besides."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((200, 10)).astype(np.float32)
    unharmed = reference + 1e-3 * rng.standard_normal(reference.shape).astype(np.float32)
    candidate = unharmed.copy()
    candidate[:, 3] += 0.1
    return Faulty(candidate, reference, unharmed)


def test_a_part_without_the_codes_that_were_changed_holds_no_fault() -> None:
    notes, codes = np.arange(0, 200, 2), np.arange(10)
    assert faulty().planted
    assert faulty().part(notes, codes[codes != 2]).planted
    assert not faulty().part(notes, codes[codes != 3]).planted


def test_what_is_as_loud_as_the_rounding_on_top_is_said_to_be_drowned() -> None:
    one = faulty()
    quiet = Faulty(one.unharmed + np.float32(1e-4), one.reference, one.unharmed)
    said = [drowned({"nuisance": "bf16", **each.loudness}) for each in (one, quiet)]
    assert said == [False, True]
    assert abs(one.loudness["floor"] - np.log10(1e-3)) < 0.1  # the loudest of ten codes
    assert abs(one.loudness["loudest"] - np.log10(0.1)) < 0.05


def test_every_plan_has_a_name_and_a_seed_of_its_own() -> None:
    every = plans()
    assert len({plan.name for plan in every}) == len({plan.number for plan in every}) == len(every) > 100
    assert all(isinstance(plan, Plan) for plan in every)
    assert all(one.held_out >= other.held_out for one, other in pairwise(every))  # the held-out ones first
    assert len({arithmetic.name for arithmetic in EMULATED}) == len(EMULATED)
