"""The machine and its libraries, observed. What cannot be found out is `None`."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from shifamind_core.precision.environment import Environment


def observe_environment(device: torch.device) -> Environment:
    """Everything that the seed's check command prints, and what else tells two machines apart."""
    on_gpu = device.type == "cuda"
    gpu = torch.cuda.get_device_properties(device) if on_gpu else None
    return Environment(
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cpu=_cpu(),
        device="cuda" if on_gpu else "cpu",
        gpu=gpu.name if gpu else None,
        gpu_count=torch.cuda.device_count() if on_gpu else None,
        compute_capability=f"{gpu.major}.{gpu.minor}" if gpu else None,
        multiprocessors=gpu.multi_processor_count if gpu else None,
        gpu_memory_bytes=gpu.total_memory if gpu else None,
        driver=_driver() if on_gpu else None,
        cuda=torch.version.cuda,
        cudnn=_cudnn(),
        torch=torch.__version__,
        transformers=_version("transformers"),
        tokenizers=_version("tokenizers"),
        numpy=_version("numpy"),
        pandas=_version("pandas"),
        scikit_learn=_version("scikit-learn"),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cudnn() -> str | None:
    number = torch.backends.cudnn.version()
    return None if number is None else str(number)


def _cpu() -> str | None:
    """The instruction set torch dispatches to: two CPUs that differ in it may differ in the last bits."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {capability}" if capability else platform.machine()


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()[0].strip() if answer.stdout.strip() else None
