"""Policies: what is asked, what is observed, and that everything returns to where it was."""

import re
from dataclasses import replace

import pytest
import torch

from shifamind_core.errors import PolicyRefused, ShifamindError
from shifamind_core.precision import apply
from shifamind_core.precision.apply import applied, autocast, observe_flags, refusal, resolve_device
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import POLICIES, policy_named

CPU = torch.device("cpu")
HONOURED_ON_CPU = [policy for policy in POLICIES.values() if not policy.tf32]


def snapshot():
    return observe_flags(POLICIES["default"], CPU, "sdpa")


class Boom(Exception):
    pass


@pytest.mark.parametrize("policy", HONOURED_ON_CPU, ids=lambda policy: policy.name)
def test_flags_return_to_where_they_were_after_an_error(policy):
    before = snapshot()
    with pytest.raises(Boom), applied(policy, CPU):
        raise Boom
    assert snapshot() == before


def test_flags_return_to_what_somebody_else_had_set():
    with applied(POLICIES["portable"], CPU):
        outer = snapshot()
        with applied(replace(POLICIES["fp32"], deterministic=False, cudnn_benchmark=True), CPU) as flags:
            assert (flags.deterministic_algorithms, flags.cudnn_benchmark) == (False, True)
        assert snapshot() == outer


def test_the_default_policy_touches_nothing():
    before = snapshot()
    with applied(POLICIES["default"], CPU) as flags:
        assert flags == before


def test_portable_is_observed_to_be_deterministic_with_math_attention_alone():
    with applied(POLICIES["portable"], CPU) as flags:
        assert flags.deterministic_algorithms and flags.cudnn_deterministic and not flags.cudnn_benchmark
        assert flags.sdpa_backends == ("math",)
        assert flags.cublas_workspace_config


def test_tf32_is_refused_on_a_cpu_with_the_reason():
    with (
        pytest.raises(PolicyRefused, match=r"compute capability 8\.0") as caught,
        applied(POLICIES["tf32"], CPU),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "refused"), [("tf32", True), ("bf16", True), ("bf16-autocast", True), ("fp16", False)]
)
def test_a_gpu_before_ampere_refuses_what_it_lacks(monkeypatch, name, refused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    reason = refusal(POLICIES[name], torch.device("cuda"))
    assert (reason is not None) == refused
    if reason:
        assert "Tesla T4 has 7.5" in reason


def test_a_policy_that_the_hardware_contradicts_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H200")
    monkeypatch.setattr(apply, "measure_tf32", lambda device: True)
    before = torch.backends.cuda.matmul.fp32_precision
    with pytest.raises(PolicyRefused, match="NVIDIA_TF32_OVERRIDE"), applied(POLICIES["fp32"], CPU):
        pass
    assert torch.backends.cuda.matmul.fp32_precision == before


@pytest.mark.parametrize("name", ["bf16-autocast", "fp16-autocast"])
def test_autocast_computes_linear_layers_in_the_dtype_asked_for(name):
    layer = torch.nn.Linear(8, 8)
    with autocast(POLICIES[name], CPU):
        assert str(layer(torch.ones(1, 8)).dtype) == f"torch.{POLICIES[name].autocast}"
    with autocast(POLICIES["fp32"], CPU):
        assert layer(torch.ones(1, 8)).dtype == torch.float32


def test_an_unknown_policy_is_named_with_the_known_ones():
    with pytest.raises(ShifamindError, match=r"no precision policy 'fp8'.*portable"):
        policy_named("fp8")


def test_cuda_is_refused_where_there_is_none():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(PolicyRefused, match="sees no GPU"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU


@pytest.mark.parametrize(
    "name", ["tpu", "quantum", "", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda0", "meta"]
)
def test_a_device_that_is_none_is_refused_with_those_there_are(name):
    with pytest.raises(ShifamindError, match=re.escape(repr(name)) + r".*auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_a_gpu_beyond_those_seen_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1) and resolve_device("cuda") == torch.device(
        "cuda"
    )
    for name in ("cuda:2", "cuda:7", "cuda:999999999"):
        with pytest.raises(
            PolicyRefused, match=rf"'{name}' was asked for, but torch sees 2 GPUs.*cuda:0 to cuda:1"
        ):
            resolve_device(name)


def test_the_environment_is_observed_in_fields():
    environment = observe_environment(CPU)
    assert environment.torch == torch.__version__
    assert environment.device == "cpu" and environment.gpu is None
    assert environment.transformers and environment.numpy
