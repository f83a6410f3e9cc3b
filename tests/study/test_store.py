"""Records survive many writers, kills and full disks; damage is named."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hmoe.base.errors import StoreError
from hmoe.base.stamp import processor
from hmoe.config import Config
from hmoe.study.store import COLUMNS, KEY, Store

CONFIG = Config(d_state=64)
SAID = {"letters": "a=anger b=fear", "predicted": "abba", "actual": "abab"}


def record(fold: object, row: str = "full", **changes: object) -> dict[str, object]:
    filled = dict.fromkeys(COLUMNS, 33.3333) | {"n_train": 9, "n_test": 3, "best_epoch": 1, "parameters": 7}
    filled |= {"acc_fear": math.nan, "device": "cpu", "commit": "0123456789", "features": "ab12"}
    filled |= {"machine": "a, b", "date": "2026-01-01"}
    filled |= {"experiment": "table", "reading": "pooled", "protocol": "stratified-5", "selection": "nested"}
    return filled | {"row": row, "seed": 0, "fold": fold, "config": CONFIG.key()} | changes


WRITER = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[1].split(os.pathsep)
    from test_store import CONFIG, SAID, record
    from hmoe.study.store import Store
    store = Store("c", Path(sys.argv[2]))
    for i in range(int(sys.argv[4])):
        store.append(record(f"{sys.argv[3]}-{i}"), SAID, CONFIG)
        print(i, flush=True)
    """
)


def writer(root: Path, name: str, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, os.pathsep.join(sys.path), str(root), name, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    assert len(store.read("table")) == 0
    store.append(record("NA", row='w/o "SiMBA", 说'), SAID, CONFIG)
    (read,) = store.read("table").to_dict("records")
    assert read["fold"] == "NA"
    assert read["row"] == 'w/o "SiMBA", 说'
    assert (read["accuracy"], read["n_test"], read["machine"]) == (33.3333, 3, "a, b")
    assert math.isnan(read["acc_fear"])
    (said,) = store.predictions("table").to_dict("records")
    assert {name: said[name] for name in SAID} == SAID
    assert store.done("table") == {tuple(str(record("NA", row='w/o "SiMBA", 说')[name]) for name in KEY)}
    kept = json.loads((tmp_path / "configs" / f"{CONFIG.key()}.json").read_text())
    assert Config(**kept) == CONFIG
    assert set(kept) == set(Config.model_fields)


def test_who_was_tested_is_read_back_whatever_the_name_of_the_fold(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    columns = {"speaker.0": ["f/1", "m", "f/1"], "augment-then-split-5.0": ["0/1", "1/1", "1/0"]}
    store.introduce(pd.DataFrame(columns, index=["a", "b", "c"]))
    assert store.tested("speaker", 0, "f/1") == ["a", "c"]
    assert store.tested("speaker", 0, "m") == ["b"]
    assert store.tested("augment-then-split-5", 0, "1") == ["b", "c", "a~1", "b~1"]


def test_a_trial_that_is_recorded_stays_as_it_was(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    store.append(record(0), SAID, CONFIG)
    before = store.path("table").read_bytes()
    store.append(record(0, accuracy=99.0), SAID, CONFIG)
    assert store.path("table").read_bytes() == before
    store.append(record(1), SAID, CONFIG)
    assert store.path("table").read_bytes().startswith(before)
    assert len(store.read("table")) == 2


def test_predictions_left_by_a_killed_run_are_replaced_by_those_of_the_record(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    for fold in (0, 1, 2):
        store.append(record(fold), SAID, CONFIG)
    path = store.path("table")
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if ",1,9,3," not in line))
    store.append(record(1, accuracy=99.0), {**SAID, "predicted": "bbbb"}, CONFIG)
    said = store.predictions("table").set_index("fold")["predicted"]
    assert said.to_dict() == {"0": "abba", "2": "abba", "1": "bbbb"}
    assert len(store.read("table")) == 3


def test_many_processes_lose_nothing(tmp_path: Path) -> None:
    writers = [writer(tmp_path, name, 12) for name in "abc"]
    assert [process.wait() for process in writers] == [0, 0, 0]
    assert set(Store("c", tmp_path).read("table")["fold"]) == {f"{name}-{i}" for name in "abc" for i in range(12)}
    assert len(Store("c", tmp_path).predictions("table")) == 36


def test_a_kill_at_any_moment_leaves_whole_lines_and_the_next_writer_goes_on(tmp_path: Path) -> None:
    for kill, lines in enumerate((1, 3, 4)):
        process = writer(tmp_path, f"k{kill}", 1000)
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(0.003 * kill)  # somewhere in the next write
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        read, said = Store("c", tmp_path).read("table"), Store("c", tmp_path).predictions("table")
        assert (read["fold"].str.startswith(f"k{kill}-")).sum() >= lines
        assert len(read) <= len(said) <= len(read) + kill + 1  # a line's predictions are always there
        assert set(read["fold"]) <= set(said["fold"])
    Store("c", tmp_path).append(record("after"), SAID, CONFIG)
    assert "after" in set(Store("c", tmp_path).read("table")["fold"])


FULL_DISK = textwrap.dedent(
    """
    import os, resource, signal, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[1].split(os.pathsep)
    from test_store import CONFIG, SAID, record
    from hmoe.base.errors import StoreError
    from hmoe.study.store import Store
    store = Store("c", Path(sys.argv[2]))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = store.path("table").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))  # less than a line
    try:
        store.append(record("too much"), SAID, CONFIG)
    except StoreError as error:
        print(error)
    """
)


def test_a_full_disk_is_one_line_and_what_was_there_is_intact(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    for fold in range(3):
        store.append(record(fold), SAID, CONFIG)
    before = store.path("table").read_bytes()
    command = [sys.executable, "-c", FULL_DISK, os.pathsep.join(sys.path), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.count("\n") == 1
    assert str(store.path("table")) in said
    assert "File too large" in said
    assert store.path("table").read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp"))
    store.append(record("too much"), SAID, CONFIG)  # once there is room
    assert len(store.read("table")) == len(store.predictions("table")) == 4


def test_a_folder_that_cannot_be_made_or_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*Not a directory.*HMOE_RESULTS"):
        Store("c", tmp_path / "file").append(record(0), SAID, CONFIG)
    (tmp_path / "c" / "table.lock").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be written"):
        Store("c", tmp_path).append(record(0), SAID, CONFIG)


READ_ONLY = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[1].split(os.pathsep)
    from test_store import CONFIG, SAID, record
    from hmoe.base.errors import StoreError
    from hmoe.study.store import Store
    if os.geteuid() == 0:  # whom no permission stops
        os.seteuid(65534)
    store = Store("c", Path(sys.argv[2]))
    print(len(store.read("table")))
    for use in (lambda: store.append(record("new"), SAID, CONFIG), store.probe):
        try:
            use()
        except StoreError as error:
            print(error)
    """
)


def test_a_read_only_folder_is_one_line_and_what_was_there_is_intact() -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders let nobody else in
        store = Store("c", Path(root))
        store.append(record(0), SAID, CONFIG)
        before = {path: path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}
        for folder in (Path(root), *(path for path in Path(root).rglob("*") if path.is_dir())):
            folder.chmod(0o555)
        command = [sys.executable, "-c", READ_ONLY, os.pathsep.join(sys.path), root]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert said[0] == "1" and len(said) == 3
        assert all(line.startswith(f"{root}/c: ") and "Permission denied" in line for line in said[1:])
        assert {path: path.read_bytes() for path in Path(root).rglob("*") if path.is_file()} == before
        for folder in (Path(root), *(path for path in Path(root).rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        store.append(record("new"), SAID, CONFIG)
        assert len(store.read("table")) == len(store.predictions("table")) == 2


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: text.rindex("cpu")], "line 3 is incomplete"),
        (lambda text: text[: text.rindex("33.3333")], "cannot be read"),
        (lambda text: text.replace("33.3333", "33x", 1), "cannot be read"),
        (lambda text: text.replace("accuracy", "akkuracy"), "has the columns"),
        (lambda text: "", "cannot be read"),
        (lambda text: text + "\0\0\0", "line|cannot be read"),
    ],
)
def test_a_damaged_table_is_named_and_never_written_over(
    tmp_path: Path, damage: Callable[[str], str], says: str
) -> None:
    store = Store("c", tmp_path)
    store.append(record(0), SAID, CONFIG)
    store.append(record(1), SAID, CONFIG)
    path = store.path("table")
    path.write_text(damaged := damage(path.read_text()))
    for use in (lambda: store.read("table"), lambda: store.append(record(2), SAID, CONFIG)):
        with pytest.raises(StoreError, match=says) as caught:
            use()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_text() == damaged


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b"])
def test_what_some_take_for_a_line_break_is_a_letter_of_a_name(tmp_path: Path, separator: str) -> None:
    store = Store("c", tmp_path)
    for fold in (f"a{separator}b", "c", "d"):
        store.append(record(fold), SAID, CONFIG)
    assert list(store.read("table")["fold"]) == [f"a{separator}b", "c", "d"]


def test_a_table_has_a_column_for_each_emotion_that_its_corpus_has(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    store.append(record(0), SAID, CONFIG)
    store.append(record(1, acc_disgust=12.5, acc_calm=25.0), SAID, CONFIG)
    store.append(record(2, acc_disgust=50.0), SAID, CONFIG)
    read = store.read("table")
    assert list(read["acc_disgust"].fillna(-1)) == [-1, 12.5, 50.0]
    assert list(read["acc_calm"].fillna(-1)) == [-1, 25.0, -1]
    assert list(read["acc_anger"]) == [33.3333] * 3
    assert list(read["date"]) == ["2026-01-01"] * 3


def test_records_from_before_a_column_was_added_are_read_kept_and_added_to(tmp_path: Path) -> None:
    store, path = Store("c", tmp_path), tmp_path / "c" / "table.csv"
    store.append(record(0, features="ab12"), SAID, CONFIG)
    old = path.read_text().replace(",features,", ",").replace(",ab12,", ",")
    path.write_text(old)
    assert list(store.read("table")["features"]) == [""]
    store.append(record(1, features="cd34"), SAID, CONFIG)
    read = store.read("table")
    assert list(read["features"]) == ["", "cd34"]
    assert read.loc[0].drop(["fold", "features"]).equals(read.loc[1].drop(["fold", "features"]))
    assert path.read_text().splitlines()[1].replace(",,", ",") == old.splitlines()[1].replace(",,", ",")


def test_the_course_of_a_training_is_kept_where_there_was_one(tmp_path: Path) -> None:
    store, curve = Store("c", tmp_path), {"loss": "1.9 0.123", "held_out_accuracy": "0.5 0.25"}
    store.append(record(0), SAID, CONFIG, curve)
    store.append(record(1), SAID, CONFIG)
    (kept,) = store.curves("table").to_dict("records")
    assert kept["fold"] == "0"
    assert {name: kept[name] for name in (*curve, "held_out_loss")} == curve | {"held_out_loss": ""}


def test_a_processor_is_named_by_family_model_and_widest_vectors() -> None:
    lines = (
        "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: sse2 avx avx2 avx512f fma"
    )
    assert processor(f"{lines}\n\nprocessor\t: 1\nmodel\t\t: 99\n") == "AMD EPYC (family 25 model 17, avx512f)"
    assert processor(lines.replace(" avx512f", "")) == "AMD EPYC (family 25 model 17, avx2)"
    assert processor("processor : 0\nFeatures : fp asimd") == ""
