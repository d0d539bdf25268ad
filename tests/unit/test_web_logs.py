# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Logs on the dashboard: parts of any log, a search, and lines as they come, whatever a rank printed."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.api_server import Serve, Served, start  # noqa: F401 - a fixture
from tests.unit.web_jobs import HTML, Job, get, page, values, words
from ugro_py.paths import JobPaths
from ugro_py.web import log_view
from ugro_py.web.job_stream import Place, read_places, write_places

NAME = "logs/rank_0.log"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobPaths:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    found = JobPaths("first")
    found.logs.mkdir(parents=True)
    return found


def texts(window: log_view.Window) -> list[str]:
    return [line.text for line in window.lines]


def test_the_last_lines_and_those_before(paths: JobPaths) -> None:
    paths.rank_log(0).write_bytes(b"".join(b"line %d\n" % number for number in range(1000)) + b"50 %")
    last = log_view.before(paths, NAME, None, 3)
    assert (texts(last), last.partial) == (["line 997", "line 998", "line 999"], "50 %")
    earlier = log_view.before(paths, NAME, last.start, 2)
    assert (texts(earlier), earlier.end, earlier.partial) == (["line 995", "line 996"], last.start, "")
    first = log_view.before(paths, NAME, 14, 10)
    assert (texts(first), first.start) == (["line 0", "line 1"], 0)
    assert log_view.before(paths, NAME, 0, 10).lines == ()


def test_paging_back_meets_every_line_once(paths: JobPaths) -> None:
    """Also where lines are longer than what is read at once, and where a block begins in the middle of one."""
    lines = [b"%d " % number + b"x" * (number * 7919 % 30_000) for number in range(60)]
    lines[30] = b"long " + b"y" * (3 * log_view.BLOCK) + b" end"
    paths.rank_log(0).write_bytes(b"\n".join(lines) + b"\n")
    place: int | None = None
    at: list[tuple[int, int]] = []
    while place != 0:
        window = log_view.before(paths, NAME, place, 7)
        assert window.lines
        at = [(line.at, line.end) for line in window.lines] + at
        assert place is None or window.start < place
        place = window.start
    assert at[0][0] == 0
    assert at[-1][1] == paths.rank_log(0).stat().st_size
    assert all(before[1] == after[0] for before, after in pairwise(at))


def test_following_meets_every_byte_once(paths: JobPaths) -> None:
    content = b"".join(b"%d %s\n" % (number, b"z" * (number * 131 % 5000)) for number in range(500))
    content += b"w" * (10 << 20) + b"\nlast"
    paths.rank_log(0).write_bytes(content)
    place, seen = 0, 0
    while True:
        window = log_view.after(paths, NAME, place, last=True)
        if not window.lines:
            break
        assert window.lines[0].at == place
        assert all(len(line.text) <= log_view.SHOWN for line in window.lines)
        seen += sum(line.end - line.at for line in window.lines)
        place = window.end
    assert place == seen == len(content)


def test_a_line_without_an_end_is_shown_until_it_has_one(paths: JobPaths) -> None:
    paths.rank_log(0).write_bytes(b"one\n 10 %\r 20 %\r 30 %")
    window = log_view.after(paths, NAME, 0)
    assert (texts(window), window.partial, window.end) == (["one"], " 30 %", 4)
    assert texts(log_view.after(paths, NAME, 4, last=True)) == [" 30 %"]


def test_control_sequences_are_no_part_of_a_line(paths: JobPaths) -> None:
    paths.rank_log(0).write_bytes(
        b"\x1b[31mred\x1b[0m\x1b]0;title\x07 \x1b[2Jplain\x00\r\nnext\xff\xfe\n\xe2\x80\xaeright to left\n"
    )
    first, second, third = texts(log_view.before(paths, NAME))
    assert (first, third) == ("red plain", "right to left")
    assert second.startswith("next")
    assert all(letter.isprintable() for letter in second)


def test_a_long_line_is_cut_and_says_how_much(paths: JobPaths) -> None:
    paths.rank_log(0).write_bytes(b"q" * 50_000 + b"\n")
    (line,) = log_view.before(paths, NAME).lines
    assert (len(line.text), line.left_out) == (log_view.SHOWN, 50_000 - log_view.SHOWN)


def test_nothing_is_read_through_a_link(paths: JobPaths, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    paths.rank_log(0).symlink_to(tmp_path / "secret")
    assert log_view.before(paths, NAME) == log_view.NOTHING
    assert log_view.after(paths, NAME, 0) == log_view.NOTHING
    assert log_view.search(paths, NAME, "secret").lines == ()


def test_search_is_from_the_end_and_can_go_on(paths: JobPaths) -> None:
    with paths.rank_log(0).open("wb") as stream:
        for number in range(100_000):
            stream.write(b"%d %s\n" % (number, b"Loss NaN" if number % 1000 == 7 else b"fine" * 4))
    found = log_view.search(paths, NAME, "loss nan", limit=30)
    assert [int(line.text.split()[0]) for line in found.lines][:3] == [99007, 98007, 97007]
    seen = [line.text for line in found.lines]
    while found.next_before is not None:
        found = log_view.search(paths, NAME, "loss nan", found.next_before, limit=30)
        seen += [line.text for line in found.lines]
    assert len(seen) == len(set(seen)) == 100
    assert log_view.search(paths, NAME, "nowhere").lines == ()
    # Without time it looks at one block at least, so that who goes on gets to the beginning.
    found, rounds = log_view.search(paths, NAME, "nowhere", most_s=0.0), 1
    while found.next_before is not None:
        found, rounds = log_view.search(paths, NAME, "nowhere", found.next_before, most_s=0.0), rounds + 1
    assert rounds == -(-paths.root.joinpath(NAME).stat().st_size // log_view.BLOCK)


def test_search_finds_what_lies_across_two_blocks(paths: JobPaths) -> None:
    before = b"a" * (log_view.BLOCK - 10) + b"\n"
    paths.rank_log(0).write_bytes(b"x" * 10 + b"\n" + b"needle in it\n" + before + b"b\n")
    size = paths.rank_log(0).stat().st_size
    assert size - log_view.BLOCK in range(11, 24)  # the block begins within the line
    (line,) = log_view.search(paths, NAME, "needle in it").lines
    assert (line.text, line.at) == ("needle in it", 11)


def test_search_in_a_line_of_megabytes_shows_what_stands_around(paths: JobPaths) -> None:
    paths.rank_log(0).write_bytes(b"m" * (5 << 20) + b"NEEDLE" + b"n" * (5 << 20) + b"\n")
    (line,) = log_view.search(paths, NAME, "needle").lines
    assert "NEEDLE" in line.text
    assert len(line.text) <= log_view.SHOWN


def test_places_survive_being_sent_and_nonsense_does_not(paths: JobPaths) -> None:
    places = {0: Place(7, 100), 3: Place(9, 5)}
    assert read_places(write_places(places)) == places
    assert read_places("0:1,x:y:z,1:2:-3,²:1:1,,:::,0:1:" + "9" * 30) == {}


def test_the_page_shows_a_log_as_text(start: Serve) -> None:
    served = start()
    job = Job(served)
    job.start()
    job.log(HTML.encode() + b"\r\n\x1b[31mred\x1b[0m\nSet-Cookie: x=1\r\n")
    job.log(b"of rank one\n", rank=1)
    for url in ("/experiments/first/logs", "/experiments/first"):
        shown = page(served, url)
        assert "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&" in words(shown)
        assert "\x1b" not in shown
        assert "of rank one" not in shown
    assert "of rank one" in page(served, "/experiments/first/logs?rank=1")
    assert "of rank one" in page(served, "/experiments/first/logs?rank=all")
    assert "of rank one" in page(served, "/experiments/first?rank=all")
    for wrong in (
        "rank=7",
        "rank=all&attempt=x",
        "rank=-1",
        "rank=../../x",
        "before=-1",
        "before=1e9",
        "q=" + "x" * 300,
    ):
        status, text, headers = get(served, f"/experiments/first/logs?{wrong}")
        assert status in (400, 404), wrong
        assert "Set-Cookie" not in headers
        assert "Traceback" not in text


def test_the_page_searches(start: Serve) -> None:
    served = start()
    job = Job(served)
    job.start()
    job.log(b"".join(b"step %d\n" % number for number in range(500)) + b"<b>odd</b>\n")
    shown = page(served, "/experiments/first/logs?q=%3Cb%3EODD")
    assert "1 line" in words(shown)
    assert "<b>odd</b>" in words(shown)
    assert "Nothing was found" in page(served, "/experiments/first/logs?q=" + "%22%3E%3Cscript%3E")
    found = values(served, "/experiments/first/logs?form=json&rank=all&q=step%20499")
    assert [line["text"] for match in found["matches"] for line in match["lines"]] == ["step 499"]


def test_logs_of_an_earlier_attempt(start: Serve) -> None:
    served = start()
    job = Job(served)
    one = job.start()
    job.log(b"of the first\n")
    job.paths.attempt(one).mkdir(parents=True)
    job.store.set_attempt(job.name, one, status="failed")
    job.paths.keep_logs(one)
    job.start()
    job.log(b"of the second\n")
    assert "of the second" in page(served, "/experiments/first/logs?rank=0")
    first = page(served, "/experiments/first/logs?rank=0&attempt=1")
    assert "of the first" in first
    assert "of the second" not in first
    assert not values(served, "/experiments/first/logs?rank=0&attempt=1&form=json")["live"]
    assert "kept no log of rank 1" in words(page(served, "/experiments/first/logs?rank=1&attempt=1"))
