"""The page about clusters: its commands are commands, its configuration asks SLURM for what the grid accepts."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import dask
import pytest
import typer
import yaml
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker

from hmoe import __main__ as cli
from hmoe.base.errors import ConfigError
from hmoe.base.files import PROJECT

BOOK = PROJECT / "book"
BLOCKS = re.findall(r"```bash\n(.*?)```", (BOOK / "cluster.md").read_text(), flags=re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines()]
DASK = {"scheduler": dask_scheduler, "worker": dask_worker}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_is_understood(words: list[str]) -> None:
    while "=" in words[0]:  # an environment variable for the command behind it
        words = words[1:]
    program, *arguments = words
    if program == "hmoe":
        command = typer.main.get_command(cli.app)
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        try:
            command.make_context("hmoe", arguments)
        except ConfigError as error:
            assert error.where == "--device"  # understood, and refused where there is no GPU
    elif program == "dask":
        DASK[arguments[0]].make_context("dask", arguments[1:])
    elif program == "make":
        assert f"\n{arguments[0]}:" in (BOOK.parent / "Makefile").read_text()
    elif program == "tools/gpu.sh":
        assert arguments[0] in ("run", "keep", "carry") and (BOOK.parent / program).is_file()
    else:
        assert program == "python"
        assert (BOOK / "assets" / arguments[0]).is_file()


def test_a_misspelt_option_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        dask_worker.make_context("dask", ["tcp://10.0.0.1:8786", "--threads-each", "1"])


def test_slurm_is_asked_for_processes_of_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the logs will lie
    pytest.importorskip("dask_jobqueue")
    given = yaml.safe_load((BOOK / "assets" / "jobqueue.yaml").read_text())
    known = dask.config.get("jobqueue.slurm")
    assert set(given["jobqueue"]["slurm"]) <= set(known)
    script = runpy.run_path(str(BOOK / "assets" / "slurm.py"))
    with (
        dask.config.set({f"jobqueue.slurm.{name}": value for name, value in given["jobqueue"]["slurm"].items()}),
        script["cluster"](port=0) as cluster,
    ):
        job = cluster.job_script()
    cores = given["jobqueue"]["slurm"]["cores"]
    for line in (f"#SBATCH --cpus-per-task={cores}", "#SBATCH -t 12:00:00", "export OMP_NUM_THREADS=1"):
        assert line in job
    assert "--nthreads 1 " in job and f"--nworkers {cores} " in job
    assert job.splitlines()[-1].startswith("/shared/hmoe/.venv/bin/python -m distributed.cli.dask_worker tcp://")
