"""Where things are kept, what a machine may lack, and that a file is written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import librosa
import pytest
import tiny
import torch
from packaging.requirements import Requirement

from hmoe.base import stamp
from hmoe.base.errors import ConfigError, StoreError
from hmoe.base.extras import EXTRAS, missing
from hmoe.base.files import PROJECT, atomic_write, cache_dir, located, results_dir, settle
from hmoe.bench import damage
from hmoe.config import Config
from hmoe.corpora import audio
from hmoe.parrot import encoders
from hmoe.study import grid, robustness
from hmoe.use.pretrained import Pretrained

FULL_DISK = """
import resource, sys
from hmoe.base.errors import StoreError
from hmoe.base.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the system refuses what goes beyond, as a full disk does
try:
    atomic_write(sys.argv[1], "x" * 100_000)
except StoreError as error:
    sys.exit(str(error))
"""


def test_directories_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path / "b"))
    assert (cache_dir(), results_dir()) == (tmp_path / "a", tmp_path / "b")


def test_write_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.csv"
    atomic_write(target, "old")
    atomic_write(target, "new 情感".encode())
    assert target.read_text("utf-8") == "new 情感"
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    target = tmp_path / "record.csv"
    target.write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, target], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{target}: cannot be written") and "free some space" in done.stderr
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_path_that_cannot_be_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/record\.csv: "):
        atomic_write(tmp_path / "file" / "record.csv", "x")


def test_a_relative_path_of_the_environment_means_one_folder_wherever_the_process_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable, given in {"HMOE_CACHE": "cache", "HMOE_RESULTS": "~/results", "HMOE_FOLDER": "mine"}.items():
        monkeypatch.setenv(variable, given)
    settle()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (cache_dir(), results_dir()) == (tmp_path / "cache", tmp_path / "home" / "results")
    assert located("HMOE_FOLDER") == tmp_path / "mine"


def test_a_variable_that_holds_a_name_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HMOE_CORPUS", "synthetic")
    monkeypatch.setenv("HMOE_COMMIT", "abc")
    settle()
    assert os.environ["HMOE_CORPUS"] == "synthetic"
    monkeypatch.setattr(stamp, "PACKAGE", tmp_path)  # no git checkout
    assert stamp.commit.__wrapped__() == "abc"


def test_without_a_home_the_line_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HMOE_CACHE")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(StoreError, match="no home folder.*; set HMOE_CACHE"):
        cache_dir()


def test_a_missing_extra_is_named_and_each_is_one_of_the_project() -> None:
    with pytest.raises(ConfigError, match=r"^a wish: .*papermill.*'\.\[book\]'"):
        raise missing(ModuleNotFoundError("No module named 'papermill.x'", name="papermill.x"), "a wish")
    own = ModuleNotFoundError("No module named 'hmoe.nothing'", name="hmoe.nothing")
    assert missing(own, "a wish") is own
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        listed = {Requirement(line).name.casefold().replace("_", "-") for line in project[extra]}
        own_name = {"jupyter_book": "jupyter-book", "IPython": "ipython"}
        for module in modules:
            name = own_name.get(module, module.replace("_", "-")).casefold()
            assert name in listed or name in ("nbclient", "nbformat", "ipython"), (extra, module)


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("pyroomacoustics", "book", lambda: robustness.impulse_response.__wrapped__(0.3)),
        ("onnxruntime", "book", encoders.OpenWakeWord),
        ("transformers", "encoders", lambda: encoders.configured("owner/name")),
        ("dask", "cluster", lambda: list(grid._on_cluster([], "tcp://127.0.0.1:1"))),
        ("hypothesis", "test", damage.damaged),
    ],
)
def test_wherever_an_extra_is_needed_and_missing_one_line_names_it(
    module: str, extra: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs {module}, of the extra `{extra}`") as failure:
        use()
    assert "\n" not in str(failure.value)


def test_a_package_without_an_extra_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs resemblyzer.*pip install --no-deps Resemblyzer"):
        encoders.Resemblyzer()


# librosa's loops are compiled, as nothing keeps them: without optimising, which is a third of the time.
BARE = """
for folder in / /tmp /dev/shm {project} {packages} {python}; do
  [ -d "$folder" ] && mount --bind "$folder" "$folder" && mount -o remount,ro,bind "$folder"
done
cd {here} && exec env -i PATH=/usr/bin:/bin LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 HOME=/proc/nowhere \
  TMPDIR=/proc/nowhere OMP_NUM_THREADS=1 NUMBA_OPT=0 {command}
"""


def test_predict_needs_nothing_that_can_be_written(tmp_path: Path) -> None:
    """No home, no temporary folder, no /dev/shm, a read-only installation, a locale without Chinese."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mounts of our own on this machine")
    torch.manual_seed(0)
    Pretrained(Config(**tiny.SMALL), list(tiny.EMOTIONS), {"corpus": "情感"}).eval().save(tmp_path / "model")
    audio.write(tmp_path / "a.wav", tiny.tone("anger", "ann", 0))
    script = BARE.format(
        project=PROJECT, packages=Path(librosa.__file__).parents[1], python=Path(sys.executable).resolve().parents[1],
        here=tmp_path, command=f"{sys.executable} -m hmoe predict -m model a.wav 情感.wav",
    )  # fmt: skip
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True)
    assert "a.wav" in done.stdout and done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "no such file" not in line] == []
