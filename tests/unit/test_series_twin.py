# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The columns beside metrics.jsonl follow it: appended, torn, damaged, copied, written by several, read by others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.unit.test_series import JOB, line, paths  # noqa: F401 - a fixture
from ugro_py import metrics, results, series
from ugro_py.paths import JobPaths
from ugro_py.series import lines
from ugro_py.series import twin as series_twin


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line gets columns at once, and a block is a few lines."""
    for module, name, size in (
        (metrics, "COLUMNS_FROM", 1), (series_twin, "FLUSH_BYTES", 1), (series_twin, "_BLOCK", 1000),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, size)


pytestmark = pytest.mark.usefixtures("eager")


def steps() -> list[int]:
    return series.open_job(JOB).raw(["step"])["step"].to_pylist()


def add(paths: JobPaths, *numbers: int) -> None:  # noqa: F811
    with paths.metrics.open("a") as stream:
        stream.write("".join(line(0, step, float(step)) for step in numbers))


def test_columns_are_appended_and_not_written_again(paths: JobPaths) -> None:  # noqa: F811
    add(paths, *range(50))
    assert steps() == list(range(50))
    twin = paths.series(paths.metrics)
    before, inode = twin.read_bytes(), twin.stat().st_ino
    add(paths, *range(50, 60))
    with paths.metrics.open("a") as stream:
        stream.write('{"step": 60, "ra')  # somebody is writing it
    assert steps() == list(range(60))
    assert twin.read_bytes().startswith(before)
    assert len(twin.read_bytes()) > len(before)
    assert steps() == list(range(60))
    assert twin.stat().st_ino == inode


def test_a_torn_or_damaged_chunk_is_made_again(paths: JobPaths) -> None:  # noqa: F811
    add(paths, *range(80))
    assert steps() == list(range(80))
    twin = paths.series(paths.metrics)
    whole = twin.read_bytes()
    for damaged in (
        whole[:-1], whole[: len(whole) // 2], whole[:10], b"", whole + b"\0" * 5000, whole + whole, b"\xff" * 300,
        whole[:-2000] + b"\0" * 2000, whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 8]) + whole[len(whole) // 2 + 1 :],
    ):  # fmt: skip
        twin.write_bytes(damaged)
        assert steps() == list(range(80))
        add(paths, 80)
        assert steps() == list(range(81))
        os.truncate(paths.metrics, paths.metrics.stat().st_size - len(line(0, 80, 80.0)))
        assert steps() == list(range(80)), "a file that was cut"


def test_a_file_that_was_copied_edited_or_rebuilt_has_its_own_columns(paths: JobPaths, tmp_path: Path) -> None:  # noqa: F811
    add(paths, *range(40))
    assert steps() == list(range(40))
    edited = paths.metrics.read_text().replace('"step": 39', '"step": 41')
    paths.metrics.write_text(edited)  # the same inode and size
    assert steps() == [*range(39), 41]
    shutil.copytree(paths.root, tmp_path / "copy")
    shutil.rmtree(paths.root)
    shutil.copytree(tmp_path / "copy", paths.root)
    assert steps() == [*range(39), 41]
    event = {"t": 5, "kind": "metrics", "rank": 0, "step": 7}
    paths.attempt(1).mkdir(parents=True)
    paths.node_events(1, "gpu1").write_text(json.dumps(event) + "\n")
    metrics.rebuild(paths)
    assert steps() == [7]


def test_lines_that_arrive_get_their_columns_at_once(paths: JobPaths) -> None:  # noqa: F811
    appender = metrics.Appender(paths)
    paths.attempt(1).mkdir(parents=True)
    for step in range(1, 41):
        with paths.node_events(1, "gpu1").open("a") as stream:
            stream.write(json.dumps({"t": step, "kind": "metrics", "rank": 0, "step": step}) + "\n")
        appender.poll()
        if appender._columns:
            appender._columns.join(60)
    twin = paths.series(paths.metrics)
    assert twin.stat().st_size > 0
    before = twin.read_bytes()
    assert steps() == list(range(1, 41))
    assert twin.read_bytes() == before, "who looks has nothing left to do"


def test_several_that_read_and_one_that_writes_see_whole_lines(paths: JobPaths) -> None:  # noqa: F811
    program = f"""
import json
from ugro_py import metrics, series
from ugro_py.series import twin as series_twin
metrics.COLUMNS_FROM = series_twin.FLUSH_BYTES = 1
series_twin._BLOCK = 1000
for _ in range(15):
    steps = series.open_job({JOB!r}).raw(["step"])["step"].to_pylist()
    assert steps == list(range(len(steps))), steps
print(len(steps))
"""
    add(paths, *range(20))
    readers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3)]
    stop = threading.Event()
    written = 20

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            add(paths, *range(written, written + 7))
            written += 7
            stop.wait(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert [(reader.communicate()[0] != b"", reader.returncode) for reader in readers] == [(True, 0)] * 3
    finally:
        stop.set()
        writer.join()
    assert steps() == list(range(written))
    found = series_twin._load(paths.series(paths.metrics))
    assert [chunk.start for chunk in found[1:]] == [chunk.end for chunk in found[:-1]]


def test_who_may_not_write_reads_all_the_same(paths: JobPaths) -> None:  # noqa: F811
    add(paths, *range(30))
    os.chown(paths.metrics, 12345, -1) if os.geteuid() == 0 else paths.root.chmod(0o500)
    try:
        assert steps() == list(range(30))
        assert not paths.series(paths.metrics).parent.exists()
    finally:
        paths.root.chmod(0o700)


def test_a_link_in_place_of_the_columns_is_not_followed(paths: JobPaths, tmp_path: Path) -> None:  # noqa: F811
    other = tmp_path / "other"
    other.write_text("precious")
    paths.series(paths.metrics).parent.mkdir()
    paths.series(paths.metrics).symlink_to(other)
    add(paths, 1, 2)
    assert steps() == [1, 2]
    assert other.read_text() == "precious"


def test_columns_that_come_later_and_damaged_blocks_between(paths: JobPaths) -> None:  # noqa: F811
    texts = []
    for step in range(300):
        texts.append(line(0, step, float(step), **({"eval_loss": 1.5} if step % 50 == 49 else {})))
        if step % 90 == 0:
            texts.append('{"step": broken\n')
    paths.metrics.write_text("".join(texts))
    for _ in range(2):  # made, and read again
        opened = series.open_job(JOB)
        assert opened.columns[-1] == "eval_loss"
        assert opened.broken == 4
        assert opened.chart("eval_loss").to_json()["lines"][0]["x"] == list(range(49, 300, 50))
        frame = results.load(JOB)
        assert frame["step"].to_list() == list(range(300))
        assert frame["eval_loss"].notna().sum() == 6
        assert str(frame["timestamp"].dt.tz) == "UTC"
        assert set(frame["job_id"]) == {JOB}


def test_a_new_name_at_each_step_makes_no_column_without_end(paths: JobPaths, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(lines, "MOST_COLUMNS", 12)
    for part in range(5):
        with paths.metrics.open("a") as stream:
            for step in range(20 * part, 20 * part + 20):
                more = {f"m{step}": 1.0} if part % 2 else {"nonfinite": [f"n{step}"]}
                stream.write(line(0, step, float(step), **more))
        opened = series.open_job(JOB)  # whoever opens it appends to the columns
        assert len(opened.columns) <= 12
    assert steps() == list(range(100))
    told = "".join(text for name in ("other", "nonfinite") for text in opened.raw([name])[name].to_pylist() if text)
    assert all(f"m{step}" in told for step in range(60, 80)) and "n99" in told


def test_columns_in_an_older_form_are_made_again(paths: JobPaths) -> None:  # noqa: F811
    add(paths, *range(30))
    assert steps() == list(range(30))
    twin = paths.series(paths.metrics)
    made = twin.read_bytes()
    assert made.startswith(b"UGROCOL2")
    twin.write_bytes(b"UGROCOL1" + made[8:])
    assert steps() == list(range(30))
    assert twin.read_bytes() == made


def test_many_chunks_are_read_in_order_by_several_threads(paths: JobPaths, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    add(paths, *range(700))
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    for _ in range(2):
        assert steps() == list(range(700))
    assert len(series_twin._load(paths.series(paths.metrics))) > 50


def test_a_part_gives_the_columns_it_is_asked_for_and_no_others(paths: JobPaths) -> None:  # noqa: F811
    with paths.metrics.open("a") as stream:
        for step in range(60):
            stream.write(line(0, step, 1.0, **({"late": 1.0} if step >= 50 else {})))
    series.open_job(JOB)  # writes them
    told = series.open_job(JOB)
    parts = told._twin.chunks
    assert len(parts) > 3
    assert all(part.stream is not None for part in parts)
    for names in ([], ["late"], ["step", "late"], ["nowhere"]):
        for part in parts:
            batch = part.columns(names)
            assert set(batch.schema.names) <= set(names), names
            assert batch.num_rows == part.rows
    assert told.raw(["late"])["late"].to_pylist() == [None] * 50 + [1.0] * 10
    assert told.raw(["nowhere"])["nowhere"].to_pylist() == [None] * 60
    assert {"training_loss", "late"} <= told.with_numbers
    assert told.with_numbers <= set(told.columns)
