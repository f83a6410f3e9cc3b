"""What a record says of its making: the commit, the machine and the time."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from hmoe.base.files import PACKAGE


def now() -> str:
    """The time, to the minute, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")


@cache
def machine(device: str = "cpu") -> str:
    """What a reader needs to judge a time, and which last bits to expect: the processor with its family, model and
    widest vector instructions, and the cores that this process may use; or the GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    name = processor(cpuinfo.read_text()) if cpuinfo.exists() else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name or platform.processor() or platform.machine()}, {cores} cores"


VECTORS = ("avx512f", "avx2", "avx", "sse2", "sve", "asimd")
"""Instructions by which processors add up in another order, the widest first."""


def processor(cpuinfo: str) -> str:
    """Of the text of /proc/cpuinfo: "AMD EPYC (family 25 model 17, avx512f)"; "" where it names no model."""
    lines = [line.partition(":") for line in cpuinfo.split("\n\n", 1)[0].splitlines()]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    if "model name" not in facts:
        return ""
    flags = facts.get("flags", facts.get("Features", "")).split()
    kind = [f"family {facts['cpu family']} model {facts['model']}"] if {"cpu family", "model"} <= set(facts) else []
    kind += [name for name in VECTORS if name in flags][:1]
    return facts["model name"] + (f" ({', '.join(kind)})" if kind else "")


@cache
def commit() -> str:
    """The commit that runs, with `+` if `hmoe/` differs from it; outside a git checkout `HMOE_COMMIT`, or `-`."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=PACKAGE, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "."], cwd=PACKAGE, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("HMOE_COMMIT", "-")
    return head + ("+" if changed else "")
