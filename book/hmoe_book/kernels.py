"""Kernels that start at once: each is forked from one process, which has imported what all chapters need.

Those are other people's packages alone: a chapter imports ours itself, so that what it reads is seen, see `reads`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
from pathlib import Path
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

PACKAGES = [
    "distributed", "ipykernel.kernelapp", "librosa", "matplotlib.pyplot", "numba", "pandas", "scipy.signal",
    "scipy.stats", "seaborn", "sklearn.ensemble", "sklearn.model_selection", "sklearn.svm", "torch",
]  # fmt: skip
FORKS = sys.platform == "linux"  # macOS has libraries that do not survive a fork, Windows has none


class Manager(AsyncKernelManager):
    """Starts kernels as `Forked` on Linux, elsewhere as Jupyter does, and ends them without interrupting them first.

    One that is interrupted just after its last cell complains.
    """

    async def _async_pre_start_kernel(self, **given: Any) -> tuple[list[str], dict[str, Any]]:
        if FORKS and self.provisioner is None:
            self.provisioner = Forked(parent=self, kernel_id=self.kernel_id or "", kernel_spec=self.kernel_spec)
        return await super()._async_pre_start_kernel(**given)

    async def _async_interrupt_kernel(self) -> None:
        if not self.shutting_down:
            await super()._async_interrupt_kernel()


class Forked(LocalProvisioner):
    """A kernel in a fork of the process that has imported `PACKAGES`, which the first of them starts."""

    async def launch_kernel(self, cmd: list[str], **given: Any) -> KernelConnectionInfo:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PACKAGES)
        arguments = cmd[cmd.index("-m") + 2 :]  # python -m ipykernel_launcher ...
        self.cwd = given.get("cwd", Path.cwd())
        process = context.Process(target=_kernel, args=(arguments, self.cwd, dict(given["env"])))
        process.start()
        self.process = Popen(process)
        self.pid = self.pgid = process.pid
        return self.connection_info


class Popen:
    """What a provisioner asks of a `subprocess.Popen`, asked of a process of `multiprocessing`."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self.process, self.pid = process, process.pid
        self.kill, self.terminate = process.kill, process.terminate

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _kernel(arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
    os.setsid()  # a signal for the kernel and what it has started is none for its parent
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"  # without one it prints how to connect to it
    IPKernelApp.launch_instance([*arguments, parent])
    atexit._run_exitfuncs()  # multiprocessing leaves without them: temporary folders would stay


def _end_with(build: multiprocessing.process.BaseProcess) -> None:
    """The process that forks ends when the build and all kernels have: a kernel that waits for it would stay."""
    build.join()
    os._exit(1)
