"""Time a call: wall clock, and the process's own CPU time, which other work on the machine hardly moves."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any


def timed(call: Callable[[], Any], repeats: int = 5) -> tuple[Any, float, float]:
    """(result, median wall milliseconds, median CPU milliseconds)."""
    wall, cpu = [], []
    result = None
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        result = call()
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return result, median(wall), median(cpu)


def report(name: str, wall_ms: float, cpu_ms: float, remark: str = "") -> None:
    """One line of a benchmark."""
    print(f"{name:<58} {wall_ms:>10,.1f} ms  (CPU {cpu_ms:>9,.1f} ms)  {remark}", flush=True)
