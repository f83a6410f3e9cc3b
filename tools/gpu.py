"""A quarter of an hour on a GPU: stages in time boxes, each a process with an output of its own (see `tools/gpu.sh`).

A stage yields what it finds, line by line; after each line its output is written whole. So whatever ends a stage, its
box, an error or the machine, what it had found stays, and the next stage starts. `stages.jsonl` says how each ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from hmoe.base.errors import ConfigError, HmoeError
from hmoe.base.files import PROJECT, atomic_write, results_dir

DEVICE = os.environ.get("DEVICE", "cuda")
CARRIED = PROJECT / "_build" / "gpu"
OUT = Path(os.environ.get("OUT") or CARRIED / "out")
LIST = PROJECT / "tools" / "gpu-packages.txt"
PYTHON = "3.12"  # of the GPU's machine
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 26, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
# Dictionaries of languages that no corpus here speaks, and packages' own tests: 20 MB less before packing.
UNNEEDED = {"tests", "bin", "ru_dict", "lb_dict", "yue_dict"}
MOST_MB = 64  # MiB that may travel, this project included
TOTAL = 595  # s for all stages: what one command may take there is 600

Line = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """`run` yields lines for `output`, JSON lines; where it writes the output itself it yields nothing."""

    name: str
    seconds: int
    run: Callable[[Path, bool], Iterator[Line]]
    output: str
    what: str


def corpus_root() -> tuple[str, str]:
    """Name and place of the corpus: `CORPUS` and `ROOT`; else CASIA, if it is at hand; else the synthetic one."""
    carried = CARRIED / "casia.zip"
    casia = os.environ.get("CASIA") or os.environ.get("HMOE_CASIA") or (str(carried) if carried.exists() else "")
    return os.environ.get("CORPUS") or ("casia" if casia else "synthetic"), os.environ.get("ROOT") or casia


def checks(output: Path, quick: bool) -> Iterator[Line]:
    """(a) The scan on the card against the reference in float64, forward and backward: every N to 512, two types."""
    import torch

    from hmoe.scan import selective_scan

    def arguments(B: int, D: int, L: int, N: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(B + D + L + N)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        made = {"u": normal(B, D, L), "delta": normal(B, D, L) - 2, "A": -torch.exp(normal(D, N)), "B": normal(B, N, L)}
        made |= {"C": normal(B, N, L), "D": normal(D), "z": normal(B, D, L), "delta_bias": normal(D)}
        return {name: tensor.to(DEVICE, dtype).requires_grad_() for name, tensor in made.items()}

    def everything(made: dict[str, torch.Tensor], implementation: str) -> list[torch.Tensor]:
        options = {"delta_softplus": True, "return_last_state": True, "implementation": implementation}
        y, last = selective_scan(**made, **options)
        total = y.double().square().sum() + last.double().square().sum()
        return [y, last, *torch.autograd.grad(total, list(made.values()))]

    def compared(B: int, D: int, L: int, N: int, dtype: torch.dtype) -> Line:
        started = time.perf_counter()
        made = arguments(B, D, L, N, dtype)
        # What PyTorch hands out next holds not-a-number: an element that no program writes would show.
        spoilt = [torch.full((B * max(D, N) * L * 8,), torch.nan, device=DEVICE) for _ in range(4)]
        del spoilt
        found = everything(made, "triton")
        exact = {name: tensor.detach().double().requires_grad_() for name, tensor in made.items()}
        wanted = everything(exact, "reference")
        error = {
            name: float(((one.double() - other).norm() / other.norm()).detach())
            for name, one, other in zip(("y", "last", *made), found, wanted, strict=True)
        }
        worst = max(error, key=lambda name: error[name] if error[name] == error[name] else float("inf"))
        line = {"check": "scan", "N": N, "B": B, "D": D, "L": L, "dtype": str(dtype).removeprefix("torch.")}
        limit = 1e-4 if dtype == torch.float32 else 2e-2
        ok = all(value < limit for value in error.values())  # which not-a-number is not
        return {**line, "worst": worst, "error": error[worst], "ok": ok, "seconds": time.perf_counter() - started}

    wide = (1, 3, 16, 33) if quick else (16, 64, 256, 512)
    shape = (1, 2, 4) if quick else (8, 64, 190)
    for N in wide:
        for dtype in (torch.float32, torch.bfloat16):
            yield compared(*shape, N, dtype)
    for small in ((1, 2, 5, 2), (2, 3, 7, 5)):
        made = tuple(arguments(*small, torch.float64).values())
        options = {"delta_softplus": True, "return_last_state": True, "implementation": "triton"}

        def ours(*tensors: torch.Tensor, options: Line = options) -> Any:
            return selective_scan(*tensors, **options)

        ok = torch.autograd.gradcheck(ours, made, raise_exception=False, fast_mode=quick)
        yield {"check": "gradcheck", **dict(zip("BDLN", small, strict=True)), "dtype": "float64", "ok": ok}
        if quick:
            break
    made = arguments(2, 40, 9, 16, torch.float32)
    twice = [everything(made, "triton") for _ in range(2)]
    yield {"check": "the same bits twice", "ok": all(torch.equal(a, b) for a, b in zip(*twice, strict=True))}
    yield from training(quick)
    for N in () if quick else [N for N in range(1, 513) if N not in wide]:
        for dtype in (torch.float32, torch.bfloat16):
            yield compared(2, 9, 7, N, dtype)


STEPS = 6  # of an epoch of the checks of training


def training(quick: bool) -> Iterator[Line]:
    """Which lines of an epoch wait for the card in every step: none should. And whether CUDA graphs train the same."""
    import warnings
    from collections import Counter

    import numpy as np
    import torch

    from hmoe import peers
    from hmoe.bench.gpu import noise
    from hmoe.study.experiments import TABLE_2
    from hmoe.train import fit, train_epoch

    for row in ("HMoE-SiMBA (frames)", "HMoE-SiMBA"):
        config = TABLE_2.row(row).config().replace(epochs=2 if quick else 6, augment=())
        if quick:
            config = config.replace(batch_size=2, d_state=4, frame_stride=64)
        inputs, rows = noise(config, DEVICE), np.tile(np.arange(config.batch_size), STEPS)
        model = peers.build(config, 6).to(DEVICE)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        labels = np.arange(config.batch_size) % 6
        targets = torch.from_numpy(labels).to(DEVICE)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for when in ("default", "warn"):  # the first epoch compiles
                if DEVICE.startswith("cuda"):
                    torch.cuda.set_sync_debug_mode(when)
                train_epoch(model, optimizer, inputs, targets, rows, config, 0, 0)
            if DEVICE.startswith("cuda"):
                torch.cuda.set_sync_debug_mode("default")
        waits = Counter(f"{Path(one.filename).name}:{one.lineno}" for one in said if "synchroniz" in str(one.message))
        often = {line: times for line, times in waits.items() if times >= STEPS}
        yield {"check": "host syncs", "row": row, "in an epoch": waits, "in every step": often, "ok": not often}
        losses, seconds = {}, {}
        for graphs in (False, True):
            started = time.perf_counter()
            build = lambda config=config: peers.build(config, 6)  # noqa: E731
            _, run = fit(build, inputs, labels, rows, None, config, 0, graphs=graphs)
            seconds[graphs], losses[graphs] = time.perf_counter() - started, [one["loss"] for one in run.history]
        largest = max(abs(a - b) for a, b in zip(losses[False], losses[True], strict=True))
        line = {"check": GRAPHS, "row": row, "largest": largest, "steps": STEPS * config.epochs}
        yield {**line, "seconds": seconds[False], "graph_seconds": seconds[True], "ok": largest < 1e-3}


GRAPHS = "CUDA graphs train the same"


def graphs_work() -> bool:
    """Whether `checks` has found that they do."""
    path = OUT / STAGES["checks"].output
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    found = [line["ok"] for line in lines if line["check"] == GRAPHS]
    return bool(found) and all(found)


def scan(output: Path, quick: bool) -> Iterator[Line]:
    """(b) The scan beside mambapy, transformers' slow path and mamba-ssm's kernel; those that are installed."""
    from hmoe.bench.scan import bench_scan

    bench_scan(output, quick, DEVICE, rehearsal=DEVICE == "cpu")
    yield from ()


def features(output: Path, quick: bool) -> Iterator[Line]:
    """(c) Features on the card beside librosa on all cores: equal values, and how many times faster; augmentation."""
    import joblib
    import numpy as np
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from hmoe import augment
    from hmoe import features as reference
    from hmoe.config import Config
    from hmoe.inputs.features_torch import Extractor
    from hmoe.study import profiles

    config, cores = Config(), joblib.cpu_count()
    corpus = profiles.load(*corpus_root(), profiles.PROFILES["full"])
    few = np.arange(0, len(corpus), len(corpus) // (16 if quick else 1200) or 1)
    samples = [corpus.waveform(i) for i in few]
    yield {"what": "corpus", "corpus": corpus.name, "utterances": len(few), "seconds_of_speech": _speech(samples)}

    parallel = joblib.Parallel(cores)
    parallel(joblib.delayed(reference.extract)(one, config) for one in samples[: 2 * cores])  # imports what there is
    started = time.perf_counter()
    wanted = parallel(joblib.delayed(reference.extract)(one, config) for one in samples)
    on_cores = time.perf_counter() - started
    yield {"what": "features", "how": f"librosa, {cores} processes", "seconds": on_cores}

    extractor = Extractor(config).to(DEVICE)

    def on_card(some: list) -> list[np.ndarray]:
        lengths = torch.tensor([len(one) for one in some])
        waves = pad_sequence([torch.from_numpy(one) for one in some], batch_first=True)
        frames, numbers = extractor(waves.to(DEVICE), lengths.to(DEVICE))
        return [one[:n] for one, n in zip(frames.cpu().numpy(), numbers.tolist(), strict=True)]

    on_card(samples[:32])  # plans its Fourier transforms
    started = time.perf_counter()
    found = [one for at in range(0, len(samples), 32) for one in on_card(samples[at : at + 32])]
    taken = time.perf_counter() - started
    yield {"what": "features", "how": DEVICE, "seconds": taken, "times_faster": on_cores / taken}
    for name, limit in (("mfcc", 1e-2), ("mel", 1e-2), ("chroma", 1e-4)):
        mine = reference.columns(config, [name])
        largest = max(float(np.abs(a[:, mine] - b[:, mine]).max()) for a, b in zip(found, wanted, strict=True))
        yield {"what": f"largest difference in {name}", "largest": largest, "ok": largest < limit}

    ids = corpus.table["id"].to_numpy()[few]
    started = time.perf_counter()
    parallel(
        joblib.delayed(augment.apply)(one, augment.draw(name, 1, config), 16_000)
        for one, name in zip(samples, ids, strict=True)
    )
    taken = time.perf_counter() - started
    yield {"what": "augmentation, one copy of each", "how": f"{cores} processes, its only path", "seconds": taken}


def _speech(samples: list) -> float:
    return round(sum(map(len, samples)) / 16_000, 1)


def chapters(output: Path, quick: bool) -> Iterator[Line]:
    """(d) papermill executes chapters 2, 7 and 10 on the card; each line holds the executed notebook."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    corpus, root = corpus_root()
    parameters = {"corpus": corpus, "root": root, "profile": "fast", "device": DEVICE, "seed": 0}
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    for name in ("02-features", "07-mamba", "10-model"):
        notebook = next((PROJECT / "notebooks").glob(f"{name[:2]}-*.ipynb"))
        error, started = "", time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / notebook.name
            try:
                papermill.execute_notebook(
                    notebook, target, parameters, kernel_name="python3", cwd=notebook.parent, progress_bar=False,
                    extra_arguments=["--log-level=ERROR"],
                )  # fmt: skip
            except PapermillExecutionError as stopped:
                error = f"cell {stopped.exec_count}: {stopped.ename}: {stopped.evalue}"
            seconds = time.perf_counter() - started
            executed = json.loads(target.read_text(encoding="utf-8"))
        yield {"chapter": notebook.stem, "seconds": seconds, "error": error, "ok": not error, "notebook": executed}


TINY = {"epochs": 1, "copies": 1}
WANTED = ("table2", "table3_frames", "protocols", "speakers", "selection")  # most wanted first


def grid(output: Path, quick: bool) -> Iterator[Line]:
    """(e) Trials of the frame-level grid side by side; what is recorded so far is packed every few seconds."""
    from hmoe.study import grid as trials
    from hmoe.study import profiles
    from hmoe.study.experiments import FRAMES, experiment
    from hmoe.study.store import Store

    profile = profiles.PROFILES["fast" if quick else "full"]
    corpus = profiles.load(*corpus_root(), profile)
    store = Store(corpus.name, scratch(), DEVICE)
    if (before := results_dir() / store.corpus).is_dir() and not quick:
        shutil.copytree(before, store.folder, dirs_exist_ok=True)  # what an earlier quarter of an hour has recorded
    wanted: list[list[trials.Trial]] = [[], []]
    for seed in profile.seeds:
        for name in WANTED[:1] if quick else WANTED:
            overrides = TINY if quick else {}
            twins = profile.twins(experiment(name), **overrides)  # rows that a rehearsal makes one
            for row in sorted(experiment(name).rows, key=lambda row: row.config().model != "hmoe-simba"):
                config = row.config()
                if config.reading == "frames" and row.name not in twins:
                    chosen = [experiment(name)]
                    some = trials.trials(chosen, corpus, profile, [seed], [row.name], DEVICE, **overrides)
                    own = all(getattr(config, field) == value for field, value in FRAMES.items())
                    wanted[0 if own else 1] += some
    workers, stop, graphs = min(16, os.cpu_count() or 1), threading.Event(), graphs_work()
    print("training steps as CUDA graphs:", "yes" if graphs else "no, as the checks have not shown that they work")

    def packing() -> None:
        while not stop.wait(0.5 if quick else 5):
            pack(store.folder.parent, output)

    thread = threading.Thread(target=packing, daemon=True)
    thread.start()
    try:
        for some in [wanted[0][:2]] if quick else wanted:
            trials.run([replace(trial, graphs=graphs) for trial in some], corpus, store, workers)
    finally:
        stop.set()
        thread.join()
        pack(store.folder.parent, output)
    yield from ()


def scratch() -> Path:
    """Where (e) keeps its records until they are packed; apart from the project's, which a rehearsal must not touch."""
    return OUT.with_name(f"{OUT.name}-records")


def pack(folder: Path, output: Path) -> None:
    """All that a store holds, in one file. A table under a writer's hands is taken whole: old or new."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".csv", ".json"):
                archive.writestr(str(path.relative_to(folder)), path.read_bytes())
    atomic_write(output, buffer.getvalue())


def cost(output: Path, quick: bool) -> Iterator[Line]:
    """(f) The whole paper's cost from what (e) recorded; beside it the floor and what was expected."""
    from hmoe.bench.gpu import extrapolated
    from hmoe.study import profiles
    from hmoe.study.store import Store

    profile, workers = profiles.PROFILES["fast" if quick else "full"], min(16, os.cpu_count() or 1)
    corpus = profiles.load(*corpus_root(), profile)
    store = Store(corpus.name, scratch(), DEVICE)
    table = extrapolated(corpus, store, workers, DEVICE, profile, **(TINY if quick else {}))
    atomic_write(output, table.to_csv(index=False, float_format="%.4g"))
    yield from ()


STAGES = {
    stage.name: stage
    for stage in (
        Stage("checks", 60, checks, "checks.jsonl", "the scan against its reference"),
        Stage("scan", 60, scan, "scan-cuda.csv", "the scan beside its peers"),
        Stage("features", 30, features, "features.jsonl", "features on the card beside librosa"),
        Stage("chapters", 90, chapters, "chapters.jsonl", "chapters 2, 7 and 10"),
        Stage("grid", 300, grid, "records.zip", "the frame-level grid, until the box is full"),
        Stage("cost", 20, cost, "paper-cuda.csv", "the whole paper, extrapolated"),
    )
}

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Quick = Annotated[bool, typer.Option(help="Tiny sizes: a rehearsal.")]


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(STAGES)}; default: all.")] = None,
    quick: Quick = False,
    box: Annotated[list[str] | None, typer.Option(help="STAGE=SECONDS, or SECONDS for all; repeatable.")] = None,
    total: Annotated[float, typer.Option(help="Seconds of all stages together.")] = TOTAL,
) -> None:
    """Run stages one after the other, each in its time box; exit code 1 if one failed or was cut.

    Example: `DEVICE=cpu TRITON_INTERPRET=1 tools/gpu.sh run checks --quick --box 30`
    """
    boxes = {name: float(stage.seconds) for name, stage in STAGES.items()}
    for given in box or []:
        name, _, seconds = given.rpartition("=")
        try:
            boxes |= dict.fromkeys([name] if name else boxes, float(seconds))
        except ValueError:
            raise ConfigError("--box", f"got {given!r}", "write SECONDS, or STAGE=SECONDS: checks=60") from None
    if unknown := [name for name in (*(names or ()), *boxes) if name not in STAGES]:
        raise ConfigError("stage", f"got {unknown[0]!r}", f"one of {', '.join(STAGES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` is reached
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(scratch(), ignore_errors=True)
    began, ended = time.monotonic(), []
    if {"features", "chapters"} & set(names or STAGES):
        with (OUT / "log.txt").open("ab") as log:  # ends by itself, while the card is at work on the first stages
            subprocess.Popen([sys.executable, "-c", WARM], stdout=log, stderr=log)
    for name in names or STAGES:
        stage, seconds = STAGES[name], min(boxes[name], total - (time.monotonic() - began))
        ended.append(_boxed(stage, seconds, quick))
        atomic_write(OUT / "stages.jsonl", _lines(ended))
        print(json.dumps(ended[-1]), flush=True)
    sys.exit(0 if all(line["ended"] == "whole" for line in ended) else 1)


WARM = """
import numpy
from hmoe import augment, features
from hmoe.config import Config
features.extract(numpy.ones(16_000, numpy.float32), Config())
for copy in range(1, 9):
    augment.apply(numpy.ones(16_000, numpy.float32), augment.draw("warm", copy, Config()), 16_000)
"""
"""What librosa compiles when it is first asked, some 20 s of a core: kept by numba for the processes that follow."""


def _boxed(stage: Stage, seconds: float, quick: bool) -> Line:
    """Run a stage in a process group of its own, which is ended with all its workers when the box is full."""
    started = time.monotonic()
    command = [sys.executable, __file__, "stage", stage.name, *(["--quick"] if quick else [])]
    with (OUT / "log.txt").open("ab") as log:
        log.write(f"== {stage.name}: {stage.what}, {seconds:.0f} s\n".encode())
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, process_group=0)
        try:
            code = process.wait(max(seconds, 0))
            ended = "whole" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            ended = "cut"
        finally:  # whatever a stage has left running, also where this process is told to end
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if stage.name == "grid" and scratch().exists():
        pack(scratch(), OUT / stage.output)
    taken = round(time.monotonic() - started, 1)
    return {"stage": stage.name, "box": seconds, "seconds": taken, "ended": ended, "output": stage.output, **_where()}


def _where() -> Line:
    """The versions that a reader of these files will ask for."""
    found = {}
    for name in ("torch", "triton", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {"device": DEVICE, "python": sys.version.split()[0], **found}


def _lines(lines: list[Line]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


@app.command()
def stage(name: str, quick: Quick = False) -> None:
    """Run one stage here, without a box."""
    from hmoe.base.stamp import commit, machine, now

    chosen, lines = STAGES[name], []
    about = {"device": DEVICE, "machine": machine(DEVICE), "commit": commit()}
    for line in chosen.run(OUT / chosen.output, quick):
        lines.append({**line, **about, "date": now()})
        atomic_write(OUT / chosen.output, _lines(lines))
        print(json.dumps({name: value for name, value in line.items() if name != "notebook"}), flush=True)
    if any(line.get("ok") is False for line in lines):
        sys.exit(3)


@app.command()
def carry(
    casia: Annotated[Path | None, typer.Option(help="The corpus's folder; else $CASIA, else $HMOE_CASIA.")] = None,
) -> None:
    """Pack what a machine without network lacks into `_build/gpu`, and say how much of 64 MiB travels.

    Example: `tools/gpu.sh carry --casia /data/casia`
    """
    from hmoe import corpora
    from hmoe.base.stamp import commit

    CARRIED.mkdir(parents=True, exist_ok=True)
    archive = CARRIED / "packages.tar.xz"
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        command = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-compile", "--only-binary=:all:"]
        command += ["--implementation=cp", f"--python-version={PYTHON}", "--target", str(site)]
        command += [f"--platform={name}" for name in PLATFORMS]
        subprocess.run([*command, "-c", str(PROJECT / "constraints.txt"), "-r", str(LIST)], check=True)
        # Wheels of 29 MB take 16 as one file: packed together, and by a better method.
        with tarfile.open(archive.with_suffix(".tmp"), "w:xz", preset=6) as packed:
            for path in sorted(site.rglob("*")):
                inner = path.relative_to(site)
                if path.is_file() and not UNNEEDED & set(inner.parts):
                    packed.add(path, str(inner), recursive=False)
        archive.with_suffix(".tmp").replace(archive)
        sizes: dict[str, int] = {}
        for record in site.glob("*.dist-info/RECORD"):
            listed = [site / line.split(",")[0] for line in record.read_text(encoding="utf-8").splitlines()]
            sizes[record.parent.name.removesuffix(".dist-info")] = sum(p.stat().st_size for p in listed if p.is_file())
    root = casia or os.environ.get("CASIA") or os.environ.get("HMOE_CASIA")
    if root:
        corpora.pack(corpora.load("casia", root), CARRIED / "casia.zip")
    (CARRIED / "commit").write_text(commit())
    _travels(sizes)


def _travels(sizes: dict[str, int]) -> None:
    """Print what travels, each with its size; ConfigError above what may."""
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:8.2f} MB unpacked  {name}")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=PROJECT, capture_output=True, check=True).stdout.decode().split("\0")
    there = [path for name in files if (path := PROJECT / name).is_file()]
    parts = {"this project": sum(path.stat().st_size for path in there)}
    parts |= {path.name: path.stat().st_size for path in sorted(CARRIED.iterdir()) if path.is_file()}
    for name, size in parts.items():
        print(f"{size / 2**20:8.2f} MiB  {name}")
    total = sum(parts.values()) / 2**20
    print(f"{total:8.2f} MiB of {MOST_MB} travel")
    if total > MOST_MB:
        raise ConfigError(CARRIED, f"{total:.1f} MiB would travel", f"at most {MOST_MB} may: shorten {LIST.name}")


@app.command()
def keep(folder: Annotated[Path, typer.Argument(help="Where the outputs lie.")] = OUT) -> None:
    """Take what came back into `results/`: records into the store of their device, measurements into `bench/`.

    Example: `tools/gpu.sh keep _build/gpu/out`
    """
    kept = []
    for stage in STAGES.values():
        if not (path := folder / stage.output).exists():
            continue
        if path.suffix == ".zip":
            _merge(path)
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            slim = [{name: value for name, value in line.items() if name != "notebook"} for line in lines]
            atomic_write(results_dir() / "bench" / f"gpu-{path.name}", _lines(slim))
        else:
            atomic_write(results_dir() / "bench" / path.name, path.read_bytes())
        kept.append(path.name)
    print("kept:", ", ".join(kept) or "nothing")


def _merge(packed: Path) -> None:
    """Records that `results/` does not have: what has been recorded there since stays."""
    from hmoe.config import Config
    from hmoe.study.store import CURVE, KEY, SAID, Store

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
        for found in sorted(path for path in Path(folder).iterdir() if path.name != "configs"):
            came, home = Store(found.name, Path(folder)), Store(found.name)
            home.introduce(came.utterances())
            for path in sorted(found.glob("*.csv")):
                said, curves = (
                    {tuple(line[name] for name in KEY): line for line in table.to_dict("records")}
                    for table in (came.predictions(path.stem), came.curves(path.stem))
                )
                for record in came.read(path.stem).to_dict("records"):
                    key = tuple(record[name] for name in KEY)
                    if key not in said:  # it was recorded while the tables were packed, one after the other
                        continue
                    config = json.loads((Path(folder) / "configs" / f"{record['config']}.json").read_text())
                    curve = {name: curves[key][name] for name in CURVE} if key in curves else None
                    home.append(record, {name: said[key][name] for name in SAID}, Config(**config), curve)


def _made() -> Line:
    """By which code a table was made, when, and where: on a CPU, as nothing of it is measured."""
    from hmoe.base.stamp import commit, machine, now

    return {"commit": commit(), "date": now(), "machine": machine()}


@app.command()
def kernels() -> None:
    """Compile the scan's kernels for sm_90, without a GPU; writes `results/bench/scan-kernels.csv`."""
    from hmoe.bench import gpu

    table = gpu.kernels().assign(**_made())
    atomic_write(results_dir() / "bench" / "scan-kernels.csv", table.to_csv(index=False))
    print(table.to_string(index=False))


@app.command()
def expected() -> None:
    """Floor and expected time of every row on a GPU, by arithmetic; writes `results/bench/gpu-expected.csv`."""
    from hmoe.bench import gpu
    from hmoe.study import profiles

    corpus = profiles.load(*corpus_root(), profiles.PROFILES["full"])
    table = gpu.whole(corpus).assign(corpus=corpus.name, **_made())
    atomic_write(results_dir() / "bench" / "gpu-expected.csv", table.to_csv(index=False, float_format="%.4g"))
    print(table.to_string(index=False))


if __name__ == "__main__":
    try:
        app()
    except HmoeError as error:
        print(f"gpu: {error}", file=sys.stderr)
        sys.exit(2)
