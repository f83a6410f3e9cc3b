"""How fast the selective scan is, and how much memory it takes, beside its peers, in one run on the same threads.

On a CPU every measurement is a process of its own, so that its peak memory is its own. The peers are benchmark-only:

- `reference`: `hmoe.scan.selective_scan_reference`, PyTorch's autograd through a loop over time;
- `c-loop`: `hmoe/data/scan_loop.c`, built here by gcc, if there is one;
- `mambapy`: the parallel scan of that package, by its own `MambaBlock.selective_scan`;
- `transformers`: the scan of `MambaMixer` where no CUDA kernel is at hand, its `mamba_selective_scan`;
- `mamba-ssm`: that package's CUDA kernel, on a GPU.

Ours is `cpu`, on a GPU `triton`.

All are given u, delta, A, B, C alone: no D (mambapy insists on one: zeros), no z, no soft-plus.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from hmoe import scan
from hmoe.base import stamp
from hmoe.base.errors import HmoeError
from hmoe.base.files import DATA, atomic_write, results_dir
from hmoe.scan import selective_scan

BATCH, THREADS = 32, min(2, os.cpu_count() or 1)
# (L, D, N): numbers of states at the length of an utterance, then lengths at few states.
SIZES = [(190, 128, 256), (190, 128, 16), (190, 128, 64), (190, 256, 256), (190, 256, 512)]
SIZES += [(48, 128, 16), (95, 128, 16), (380, 128, 16)]
QUICK = [(16, 64, 16), (32, 64, 16)]
REHEARSED = [(4, 8, 4), (6, 8, 4)]  # Triton's interpreter takes seconds for these
# As trained (80 ms a frame, 64 channels widened twice), then an utterance of all frames, then a minute.
CUDA_SIZES = [(L, D, N) for L, D in ((24, 128), (190, 256), (2048, 256)) for N in (256, 16, 64, 512)]
# Peak memory in multiples of (B, L, D, N) floats, seen at small sizes: what would not fit well is not tried.
MATERIALISES = {"mambapy": 14, "transformers": 15, "reference": 6}
MOST_STATES = {"reference": 64, "mamba-ssm": scan.MOST_STATES}  # beyond, its backward pass takes minutes; refuses
LIMIT = 2400  # seconds for one measurement

Runs = tuple[Callable[[], Tensor], Callable[[], list[Tensor]]]  # forward gives y, backward the gradients of the inputs


def measure(
    implementation: str, B: int, L: int, D: int, N: int, device: str = "cpu", spend: float = 6
) -> dict[str, float]:
    """Best seconds (of the clock, and of the processor) and peak MB beyond the inputs, of one implementation.

    Repeated for `spend` seconds, at least once and at most 50 times.
    """
    torch.set_num_threads(THREADS)
    prepare = _c_loop if implementation == "c-loop" else _torch
    for run in prepare(implementation, _inputs(2, 3, 8, 4 if device == "cpu" else N, device)):
        run()  # compiles and loads what there is
    forward, backward = prepare(implementation, _inputs(B, L, D, N, device))
    forget_peak(device)
    before = memory("VmRSS", device)
    forward_times, backward_times, started = [], [], time.perf_counter()
    while not forward_times or (time.perf_counter() - started < spend and len(forward_times) < 50):
        forward_times.append(seconds(forward, device))
        backward_times.append(seconds(backward, device))
    found = {"peak_mb": memory("VmHWM", device) - before, "repeats": len(forward_times)}
    for name, times in (("forward", forward_times), ("backward", backward_times)):
        found[f"{name}_s"], found[f"{name}_processor_s"] = (min(column) for column in zip(*times, strict=True))
    return found


def _inputs(B: int, L: int, D: int, N: int, device: str) -> list[Tensor]:
    """u, delta, A, B, C and the gradient of y, of the sizes that a Mamba block makes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    A = -torch.arange(1.0, N + 1, device=device).repeat(D, 1)
    given = [normal(B, D, L), normal(B, D, L).sub(4).exp(), A, normal(B, N, L), normal(B, N, L)]
    return [tensor.requires_grad_() for tensor in given] + [normal(B, D, L)]


def _torch(implementation: str, tensors: list[Tensor]) -> Runs:
    u, delta, A, B, C, dy = tensors
    held: list[Tensor] = []

    def scan() -> Tensor:
        if implementation == "mambapy":
            from mambapy.mamba import MambaBlock

            x = (u.mT, delta.mT, A, B.mT, C.mT, torch.zeros_like(A[:, 0]))
            return MambaBlock.selective_scan(None, *x).mT  # a method that makes no use of its self
        if implementation == "transformers":
            from transformers.models.mamba.modeling_mamba import mamba_selective_scan

            return mamba_selective_scan(u, delta, A, B, C)
        return selective_scan(u, delta, A, B, C, implementation=implementation)

    def forward() -> Tensor:
        for tensor in tensors:
            tensor.grad = None
        held[:] = [scan()]
        return held[0]

    def backward() -> list[Tensor]:
        held.pop().backward(dy)
        return [tensor.grad for tensor in tensors[:-1]]

    return forward, backward


def _c_loop(implementation: str, tensors: list[Tensor]) -> Runs:
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "loop.so"
        flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", "-c"]
        subprocess.run(["gcc", *flags, str(DATA / "scan_loop.c"), "-o", f"{built}.o"], check=True)
        # Linked without -ffast-math, which would make the whole process flush subnormal numbers to zero.
        subprocess.run(["gcc", "-shared", "-fopenmp", f"{built}.o", "-o", str(built), "-lmvec", "-lm"], check=True)
        library = ctypes.CDLL(str(built))
    u, delta, A, B, C, dy = (tensor.detach() for tensor in tensors)
    (batch, D, L), N = u.shape, A.shape[1]
    inputs = [u, delta, A, B.mT.contiguous(), C.mT.contiguous()]

    def call(function: Callable, arrays: list[Tensor]) -> None:
        function(batch, D, L, N, *(ctypes.c_void_p(array.data_ptr()) for array in arrays))

    def forward() -> Tensor:
        y = torch.empty_like(u)
        call(library.forward, [*inputs, y])
        return y

    def backward() -> list[Tensor]:
        made = [torch.empty_like(x) for x in (u, delta)] + [u.new_empty(batch, D, N)]
        made += [u.new_empty(batch, L, N) for _ in range(2)]
        call(library.backward, [*inputs, dy, *made])
        return [made[0], made[1], made[2].sum(dim=0), made[3].mT, made[4].mT]

    return forward, backward


def seconds(run: Callable[[], object], device: str) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - processor


def forget_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def memory(which: str, device: str) -> float:
    """MB; `VmRSS` now, `VmHWM` at the peak (Linux)."""
    if device.startswith("cuda"):
        return (torch.cuda.memory_allocated() if which == "VmRSS" else torch.cuda.max_memory_allocated()) / 2**20
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[which].split()[0]) / 2**10


def _free_bytes() -> int:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 2**10


def _measured(implementation: str, L: int, D: int, N: int) -> dict[str, object]:
    """One row of the table, from a process of its own; with a note in place of numbers where it was not run."""
    row = {"implementation": implementation, "B": BATCH, "L": L, "D": D, "N": N, "load": os.getloadavg()[0], "note": ""}
    if MATERIALISES.get(implementation, 0) * 4 * math.prod((BATCH, L, D, N)) > 0.95 * _free_bytes():
        return {**row, "note": "not run: too little free memory"}
    command = [sys.executable, "-m", "hmoe.bench.scan", json.dumps([implementation, BATCH, L, D, N])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {**row, "note": f"stopped after {LIMIT} s"}
    return {**row, **json.loads(done.stdout)}


def _on_card(implementation: str, B: int, L: int, D: int, N: int, device: str) -> dict[str, object]:
    """One row of the table, in this process, whose peak on the card can be forgotten."""
    row = {"implementation": implementation, "B": B, "L": L, "D": D, "N": N, "load": os.getloadavg()[0], "note": ""}
    needed = MATERIALISES.get(implementation, 0) * 4 * math.prod((B, L, D, N))
    if device.startswith("cuda") and needed > 0.95 * torch.cuda.mem_get_info()[0]:
        return {**row, "note": "not run: too little free memory"}
    try:
        return {**row, **measure(implementation, B, L, D, N, device, spend=0.4)}
    except (torch.OutOfMemoryError, HmoeError) as error:
        return {**row, "note": f"not run: {' '.join(str(error).split())[:120]}"}


def bench_scan(
    target: Path | None = None, quick: bool = False, device: str = "cpu", rehearsal: bool = False
) -> pd.DataFrame:
    """Measure all implementations that are installed; store the table in `target` (`results/bench/scan.csv`).

    One row for each implementation and size: forward and backward in seconds of the clock and of the processor (all
    threads together, which a busy machine changes little), peak memory beyond the inputs in MB, and how many times the
    time and the memory of ours each takes. `quick` takes small sizes and stores nothing unless told where. Takes about
    15 minutes on 2 quiet cores, almost all of it in the peers. A GPU has a table of its own (`scan-cuda.csv`);
    in a `rehearsal` a CPU does what a GPU would, Triton's interpreter included.
    """
    on_card = device != "cpu" or rehearsal
    ours = ["triton", "mamba-ssm"] if on_card else ["cpu", *(["c-loop"] if shutil.which("gcc") else [])]
    names = [*ours, *(name for name in ("mambapy", "transformers") if find_spec(name)), "reference"]
    if find_spec("mamba_ssm") is None and on_card:
        print("mamba-ssm is not installed: its kernel is not measured", file=sys.stderr)
        names.remove("mamba-ssm")
    sizes = REHEARSED if rehearsal else QUICK if quick else CUDA_SIZES if on_card else SIZES
    wanted = [(name, *size) for size in sizes for name in names]
    wanted = [case for case in wanted if case[-1] <= MOST_STATES.get(case[0], math.inf)]
    kept = "scan.csv" if device == "cpu" else f"scan-{device.partition(':')[0]}.csv"
    target = target or (None if quick else results_dir() / "bench" / kept)
    rows: list[dict[str, object]] = []
    for case in wanted:
        name, *size = case
        rows.append(_on_card(name, 1 if rehearsal else BATCH, *size, device) if on_card else _measured(*case))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        table = _compared(pd.DataFrame(rows), device)
        if target:  # after each, so that an interrupted run has something to show
            atomic_write(target, table.to_csv(index=False, float_format="%.4g"))
    return table


def _compared(table: pd.DataFrame, device: str = "cpu") -> pd.DataFrame:
    """Add how many times ours each takes (which is measured before its peers), and where all that was."""
    sizes = [table["L"], table["D"], table["N"]]

    def times_ours(measured: pd.Series) -> pd.Series:
        return measured / measured.groupby(sizes).transform("first")

    return table.assign(
        times=times_ours(table["forward_s"] + table["backward_s"]),
        processor_times=times_ours(table["forward_processor_s"] + table["backward_processor_s"]),
        memory_times=times_ours(table["peak_mb"]),
        threads=THREADS,
        commit=stamp.commit(),
        date=stamp.now(),
        machine=stamp.machine(device),
    )


if __name__ == "__main__":
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
