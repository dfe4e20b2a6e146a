"""The machine and its libraries, as a manifest records them. What is not known is `None`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Environment:
    """The machine and its libraries, one field a fact, so that two manifests can be compared."""

    platform: str | None = None
    python: str | None = None
    cpu: str | None = None
    device: Literal["cpu", "cuda"] | None = None
    gpu: str | None = None
    gpu_count: int | None = None
    compute_capability: str | None = None
    multiprocessors: int | None = None
    gpu_memory_bytes: int | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    torch: str | None = None
    transformers: str | None = None
    tokenizers: str | None = None
    numpy: str | None = None
    pandas: str | None = None
    scikit_learn: str | None = None
