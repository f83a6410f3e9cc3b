"""What is kept is named by the code that makes it: by all of that code, and by no other."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hmoe import augment, features
from hmoe.base import source
from hmoe.base.source import Needs, made_by
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs import bank, prosody
from hmoe.parrot import cached, encoders, ssamba
from hmoe.study import robustness
from hmoe.study.robustness import Disturbed

CONFIG = Config(copies=1)


@pytest.fixture(autouse=True)
def code_is_read_anew() -> None:
    made_by.cache_clear()


# --- functions: entries of a cache ---

CODE = '''
"""A module."""
import numpy as np
FACTOR, OTHER = 2, 3

def helper(x):
    """Helps."""
    return x * FACTOR

def makes(x: int, table={"a": helper}):
    return helper(x)

def unrelated(x):
    return OTHER
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of ours whose code a test may write."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(source.OURS, tmp_path.name, tmp_path / tmp_path.name)
    (tmp_path / tmp_path.name).mkdir()
    return tmp_path / tmp_path.name


def written(package: Path, name: str, code: str):
    (package / f"{name}.py").write_text(code)
    importlib.invalidate_caches()
    return importlib.import_module(f"{package.name}.{name}")


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("x * FACTOR", "x + FACTOR", True),  # of what it uses
        ("FACTOR, OTHER = 2, 3", "FACTOR, OTHER = 5, 3", True),
        ("return helper(x)", "return helper(x) + 1", True),
        ("return OTHER", "return 0", False),
        ("FACTOR, OTHER = 2, 3", "FACTOR, OTHER = 2, 4", False),
        ('"""Helps."""', '"""Helps more."""', False),
        ("    return helper(x)", "    # said\n    return helper(x)", False),
        ("x: int", "x: float", False),
    ],
)
def test_a_name_changes_with_what_makes_the_entry_and_with_nothing_else(
    old: str, new: str, changes: bool, package: Path
) -> None:
    before, after = written(package, "a", CODE), written(package, "b", CODE.replace(old, new))
    assert (made_by(before.makes) != made_by(after.makes)) == changes


@pytest.mark.parametrize(
    ("owner", "name", "value", "kinds"),
    [
        (features, "PERCENTILES", (10, 50, 80), {"statistics", "frames-1"}),
        (features, "thin", lambda frames, stride: frames, {"frames-1"}),
        (prosody, "STEP", 0.02, {"prosody"}),
        (prosody, "functionals", np.mean, {"prosody"}),
    ],
)
def test_features_are_kept_under_the_name_of_what_makes_them(
    owner: object, name: str, value: object, kinds: set[str], tiny_corpus: Corpus, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    built = bank.Bank([], 1, 260, tmp_path, "a")
    every = ("statistics", "frames-1", "prosody")
    before = {kind: built.path(kind, 0) for kind in every}
    monkeypatch.setattr(owner, name, value)
    made_by.cache_clear()
    assert {kind for kind in every if built.path(kind, 0) != before[kind]} == kinds


def test_copies_are_named_by_what_augments_them_and_clean_utterances_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = bank.Bank([], 1, 260, tmp_path, "a")
    clean, copy = (built.path("statistics", c) for c in (0, 1))
    monkeypatch.setattr(augment, "N_FFT", 1024)
    made_by.cache_clear()
    assert built.path("statistics", 0) == clean and built.path("statistics", 1) != copy


def test_a_condition_that_is_rewritten_is_heard_anew_and_it_alone(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path))

    def pooled(condition: str) -> tuple[Path, np.ndarray]:
        made_by.cache_clear()
        built = bank.build(Disturbed.of(tiny_corpus, condition), CONFIG, copies=0, workers=1, progress=False)
        return built.path("statistics", 0), built.pooled(np.arange(3), np.zeros(3, int))

    quiet, clipped = pooled("gain -6 dB"), pooled("clipped by 6 dB")
    monkeypatch.setitem(robustness.CONDITIONS, "gain -6 dB", robustness.CONDITIONS["clean"])
    changed, same = pooled("gain -6 dB"), pooled("clipped by 6 dB")
    assert changed[0] != quiet[0] and np.abs(changed[1] - quiet[1]).max() > 1
    assert same[0] == clipped[0]
    before = bank.content(Disturbed.of(tiny_corpus, "clipped by 6 dB"))
    monkeypatch.setattr(robustness, "louder", robustness.telephone)  # which clipping uses
    made_by.cache_clear()
    assert bank.content(Disturbed.of(tiny_corpus, "clipped by 6 dB")) != before


def test_embeddings_are_named_by_the_spectrum_that_their_encoder_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> dict[str, str]:
        made_by.cache_clear()
        return {each.__name__: made_by(each) for each in (encoders.Patches, encoders.Resemblyzer, encoders.HuggingFace)}

    before = names()
    assert "hmoe.scan.__init__" not in sys.modules  # a package that ran twice would register its operations twice
    monkeypatch.setattr(ssamba, "N_MELS", 64)
    after = names()
    assert {name for name in before if after[name] != before[name]} == {"Patches"}
    assert cached.made_by is made_by


# --- modules: chapters and trials ---


def test_kernels_have_one_name_whether_they_are_compiled_or_interpreted() -> None:
    pytest.importorskip("triton")
    code = "from hmoe.base.source import made_by; from hmoe.parrot.encoders import Patches; print(made_by(Patches))"
    said = set()
    for interpreted in ("0", "1"):
        environment = {**os.environ, "TRITON_INTERPRET": interpreted}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.add(done.stdout)
    assert len(said) == 1


def test_code_needs_what_it_imports_and_what_that_imports(package: Path) -> None:
    for name, imports in {
        "a": "from {}.b import x",
        "b": "def f():\n import {}.c",
        "c": "import scipy.fft",
        "d": "",
    }.items():
        (package / f"{name}.py").write_text(imports.format(package.name))
    (package / "__init__.py").touch()
    needed = Needs.of(f"import os\nimport numpy as np\nfrom {package.name} import a")
    assert {file.stem for file in needed.files} == {"__init__", "a", "b", "c"}
    assert needed.packages == ("numpy", "scipy")
    before = needed.digest()
    (package / "d.py").write_text("edited")
    assert needed.digest() == before
    (package / "c.py").write_text("import scipy.fft  # edited")
    assert needed.digest() != before


def test_another_version_of_a_package_behind_is_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from hmoe import features"
    before = Needs.of(code).digest()
    versions = dict.fromkeys(("librosa", "numpy"), "0")
    monkeypatch.setattr(source, "version", lambda name: versions.get(name, "9"))
    source._versioned.cache_clear()
    assert Needs.of(code).digest() != before
    monkeypatch.undo()
    source._versioned.cache_clear()
    assert Needs.of(code).digest() == before


def test_modules_chosen_by_name_are_needed_too() -> None:
    assert {"cpu", "triton"} <= {file.stem for file in Needs.of("from hmoe.scan import selective_scan").files}
