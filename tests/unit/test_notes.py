# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The Markdown notes of an experiment while somebody else writes them too: no word of theirs is lost."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ugro_py.errors import StateError
from ugro_py.experiments import notes
from ugro_py.experiments.notes import BEGIN, END
from ugro_py.results import JobResults

ROUNDS = 60


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    return notes.write(figures(0))


def figures(steps: int) -> JobResults:
    return JobResults(
        "one", "completed", "", 1, 2, ("gpu1",), steps, None, None, 1.0, None, None, None, 0, None, None, None, None,
        None, None, None, "",
    )  # fmt: skip


def write_often(first: int) -> None:
    for number in range(ROUNDS):
        notes.write(figures(first + number))


def save(path: Path, text: bytes) -> None:
    """Save as an editor does that leaves no half of a file behind."""
    part = path.with_name("mine.tmp")
    part.write_bytes(text)
    part.replace(path)


@pytest.mark.parametrize(
    "mine",
    [
        b"# Title\r\n\r\nline ends of Windows\r\n%s\r\nmore\r\n",
        "Grüße in Latin-1: é\n".encode("latin-1") + b"%s\n\xff\xfe",
        b"\xef\xbb\xbfa mark of UTF-8\n%s",
        b"%s\x00",
    ],
)
def test_every_byte_around_the_figures_stays(page: Path, mine: bytes) -> None:
    page.write_bytes(mine.replace(b"%s", f"{BEGIN}\r\nold\r\n{END}".encode()))
    notes.write(figures(7))
    text = page.read_bytes()
    before, _, rest = text.partition(BEGIN.encode())
    assert b"| Steps | 7 |" in rest and b"old" not in rest
    assert before + b"%s" + rest.partition(END.encode())[2] == mine


@pytest.mark.parametrize(
    "damaged",
    [
        BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}", f"{BEGIN[:-1]}{END}",
        f"{BEGIN.upper()}{END}", "", "<!-- ugro: -->",
    ],
)  # fmt: skip
def test_where_a_mark_is_damaged_nothing_is_touched(page: Path, damaged: str) -> None:
    page.write_text(f"mine\n{damaged}\nmine too\n")
    before = page.stat()
    notes.write(figures(7))
    after = page.stat()
    assert page.read_text() == f"mine\n{damaged}\nmine too\n"
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    page.unlink()
    notes.write(figures(7))
    assert "| Steps | 7 |" in page.read_text(), "removed, it is made anew"


def test_a_file_stays_its_owner_s(page: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files to others")
    os.chown(page, 65534, 65533)
    page.chmod(0o640)
    notes.write(figures(8))
    status = page.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (65534, 65533, 0o640)
    assert b"| Steps | 8 |" in page.read_bytes()


def test_what_cannot_stay_its_owner_s_is_left_alone(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = page.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)  # as the kernel does where the agent is not root
    notes.write(figures(8))
    mine = page.read_bytes()
    assert mine != before, "of one's own file there is nothing to give away"
    real = Path.stat

    def of_somebody(path: Path, **how: bool) -> os.stat_result:
        found = list(real(path, **how))
        return os.stat_result([*found[:4], 65534 if path == page else found[4], *found[5:]])

    monkeypatch.setattr(Path, "stat", of_somebody)
    with pytest.raises(StateError, match=r"one\.md: write the experiment's notes: .*not permitted"):
        notes.write(figures(9))
    monkeypatch.undo()
    assert page.read_bytes() == mine
    assert [path.name for path in page.parent.iterdir()] == [page.name], "and nothing is left beside it"


def test_two_processes_and_a_person_write_at_once(page: Path) -> None:
    """Whatever a person saves is there a moment later, whoever writes figures meanwhile, and so are the marks."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_often, args=(first,)) for first in (1000, 2000)]
    for writer in writers:
        writer.start()
    head, count = page.read_bytes(), 0
    while any(writer.is_alive() for writer in writers) or count < ROUNDS:
        save(page, head + f"line {count}\n".encode())
        # A moment: UGRO may have taken its place, sees that, and gives it back.
        deadline = time.monotonic() + 60
        while not page.read_bytes().endswith(f"\nline {count}\n".encode()):
            assert time.monotonic() < deadline, f"line {count} is lost"
        count += 1
        time.sleep(0.005)  # whoever saves without end keeps UGRO from writing without end
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    text = page.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.endswith(f"\nline {count - 1}\n")
    assert not [path for path in page.parent.iterdir() if path != page], "nothing is left behind"


def test_a_save_between_reading_and_writing_is_seen(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the worst moment: all is read, the new file is written, and the rename is next."""
    real, saved = notes._rename, []

    def late(part: Path, target: Path, how: int) -> bool:
        if not saved:
            saved.append(True)
            save(target, target.read_bytes() + b"the last word\n")
        return real(part, target, how)

    monkeypatch.setattr(notes, "_rename", late)
    notes.write(figures(9))
    text = page.read_text()
    assert text.endswith("the last word\n") and "| Steps | 9 |" in text
    page.unlink()
    saved.clear()

    def made(part: Path, target: Path, how: int) -> bool:
        if not saved:
            saved.append(True)
            target.write_text("made by hand at this very moment\n")
        return real(part, target, how)

    monkeypatch.setattr(notes, "_rename", made)
    notes.write(figures(9))
    assert page.read_text() == "made by hand at this very moment\n"


def test_a_file_that_an_editor_holds_open(page: Path) -> None:
    """What the editor holds is what it read; it finds by the name that there is another now, and saves by the name."""
    with page.open("r+b") as held:
        read = held.read()
        notes.write(figures(7))
        assert os.fstat(held.fileno()).st_ino != page.stat().st_ino, "so the editor can tell, and its copy is whole"
        held.seek(0)
        assert held.read() == read
    save(page, read + b"what I typed meanwhile\n")
    notes.write(figures(8))
    assert "| Steps | 8 |" in page.read_text() and page.read_text().endswith("what I typed meanwhile\n")


def test_without_the_kernel_s_help_the_file_is_replaced(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """A C library that knows nothing of renameat2."""

    monkeypatch.setattr(notes.ctypes, "CDLL", lambda *_, **__: Old())
    page.write_text(f"mine {page.read_text()}")
    notes.write(figures(7))
    assert page.read_text().startswith("mine") and "| Steps | 7 |" in page.read_text()
    page.unlink()
    notes.write(figures(8))
    assert "| Steps | 8 |" in page.read_text()
