"""What the benchmarks share: children that are timed apart, FLOP counts, the sgemm peak, tables and JSON files."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.work.runtime import ALLOCATOR

ROOT = Path(__file__).parents[1]


def environment(threads: int, *, as_workers: bool = False) -> dict[str, str]:
    """Give a child's environment.

    Args:
        threads: Threads of every library.
        as_workers: Whether the allocator is set as in our workers.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    found = {**os.environ, "PYTHONPATH": paths, "RAY_ADDRESS": "local", **dict.fromkeys(names, str(threads))}
    return found | (ALLOCATOR if as_workers else {})


def run_child(module: str, settings: Mapping[str, Any], *, threads: int = 1) -> dict[str, Any]:
    """Run a module of bench/ as our workers run, settings as JSON in its argument, and read the JSON it ends with.

    Raises:
        RuntimeError: It failed; the message ends with what it wrote on standard error.
    """
    command = [sys.executable, "-m", module, json.dumps(settings)]
    run = subprocess.run(command, env=environment(threads, as_workers=True), cwd=ROOT, capture_output=True, text=True)
    return last_json(run.returncode, run.stdout, run.stderr)


def run_together(
    module: str,
    settings: Sequence[Mapping[str, Any]],
    *,
    threads: int = 1,
    as_workers: bool = False,
    cap_seconds: float | None = None,
) -> dict[str, Any]:
    """Run children side by side; each says ``ready`` after loading, begins when all are, and tells when it ``ended``.

    Args:
        module: Module of bench/.
        settings: For each child, its argument as JSON.
        threads: Threads of each.
        as_workers: Whether the allocator is set as in our workers.
        cap_seconds: Time from the start of all after which they are killed.

    Returns:
        ``seconds`` from the start of all to the end of the last, and ``children``, what each ended with.

    Raises:
        RuntimeError: One of them failed.
        TimeoutError: One had not ended at the cap.
    """
    children = _ready_children(module, settings, environment(threads, as_workers=as_workers))
    began = time.monotonic()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()

    def left() -> float | None:
        return None if cap_seconds is None else began + cap_seconds - time.monotonic()

    try:
        ends = [(child, *child.communicate(timeout=left())) for child in children]
    except subprocess.TimeoutExpired:
        for child in children:
            child.kill()
            child.communicate()
        raise TimeoutError(f"{module} did not end in {cap_seconds:g} s") from None
    found = [last_json(child.returncode, out, err) for child, out, err in ends]
    # One clock serves all processes of the machine; so the end of Python is not counted.
    return {"seconds": max(each["ended"] for each in found) - began, "children": found}


def _ready_children(
    module: str, settings: Sequence[Mapping[str, Any]], env: Mapping[str, str]
) -> list[subprocess.Popen[str]]:
    children = [
        subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(each)],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in settings
    ]
    for child in children:
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            for other in children:
                other.kill()
            raise RuntimeError(f"{module} failed while loading:\n{child.communicate()[1][-2000:]}")
    return children


def last_json(code: int | None, out: str, err: str) -> dict[str, Any]:
    """Read the last line of JSON on a child's standard output; Ray may have said something behind it.

    Raises:
        RuntimeError: The child failed.
    """
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if code != 0 or not lines:
        raise RuntimeError(f"a child ended with {code}:\n{err[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def wait_for_go() -> None:
    """Say ``ready`` and wait for the parent of ``run_together``."""
    print("ready", flush=True)
    sys.stdin.readline()


def seconds_of(work: Callable[[], object]) -> float:
    """Give the wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_bytes() -> int:
    """Give the largest resident memory of this process so far, or since ``restart_peak``."""
    return _status("VmHWM")


def restart_peak() -> int:
    """Begin the peak of this process anew, from what is resident now, which is given."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def count_flops(work: Callable[[], object]) -> int:
    """Count the floating-point operations of matrix products and convolutions, an addition and a product as two."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The fused kernel for CPU is not counted; its plain form is two matrix products, which are.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def sgemm_peak(threads: int, size: int = 2048, seconds: float = 2.0) -> float:
    """Measure float32 matrix products of this process: FLOP a second, the best of those that fit in the time."""
    import torch

    torch.set_num_threads(threads)
    left, right = torch.randn(size, size), torch.randn(size, size)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        best = min(best, seconds_of(lambda: left @ right))
    return 2 * size**3 / best


def machine() -> dict[str, Any]:
    """Say what was measured on."""
    import torch
    import transformers

    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay rows out as a Markdown table with even columns."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return "\n".join(lines)


def write_json(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write figures, with what they were measured on, to a file; nothing where no file is asked for."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n")
