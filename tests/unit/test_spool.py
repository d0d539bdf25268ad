# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What was submitted stays as it was; what comes over the wire stays where it belongs."""

# ruff: noqa: F811 - the fixture
from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.here import JOB, Here, here  # noqa: F401 - a fixture
from ugro_py import paths
from ugro_py.errors import StateError, UgroError, UsageError
from ugro_py.paths import JobPaths
from ugro_py.queue import spool, spool_tar
from ugro_py.request.job import JobRequest


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobRequest:
    """A job with a script, a program and a link beside it."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))
    folder = tmp_path / "code"
    (folder / "sub").mkdir(parents=True)
    (folder / "train.py").write_text("print(1)\n")
    (folder / "sub" / "run").write_text("#!/bin/sh\n")
    (folder / "sub" / "run").chmod(0o755)
    (folder / "link").symlink_to("sub/run")
    return JobRequest("job", script="train.py", workdir=str(folder))


def submit(request: JobRequest, **options: bool) -> spool.Sources:
    spool.commit(spool.write(spool.read(request), **options), request.name)
    return spool.load(request.name)


def test_what_was_submitted_is_what_is_read(request_: JobRequest) -> None:
    before = spool.read(request_)
    assert not spool.exists("job")
    kept = submit(request_)
    assert spool.exists("job")
    Path(request_.workdir or "", "train.py").write_text("print(2)\n")
    again = spool.load("job")
    assert again.code.digest == kept.code.digest == before.code.digest
    assert (again.code.root / "train.py").read_text() == "print(1)\n"
    assert (again.code.root / "sub" / "run").stat().st_mode & 0o111
    assert (again.code.root / "link").readlink() == Path("sub/run")
    assert list(paths.spool_inbox().iterdir()) == []


def test_a_spool_that_was_changed_is_refused(request_: JobRequest) -> None:
    kept = submit(request_)
    (kept.code.root / "train.py").write_text("print(3)\n")
    with pytest.raises(StateError, match="not what was submitted"):
        spool.load("job")
    with pytest.raises(StateError, match="has none"):
        spool.load("nobody")


@pytest.mark.parametrize("path", ["code/train.py", "code/sub/run", paths.SPOOL_MANIFEST])
@pytest.mark.parametrize("left", [b"", b"\0" * 9, None])
def test_what_a_failure_of_power_left_is_never_run(request_: JobRequest, path: str, left: bytes | None) -> None:
    submit(request_)
    harmed = JobPaths("job").spool / path
    if left is None:
        harmed.unlink()
    else:
        harmed.write_bytes(left)
    with pytest.raises(StateError, match="launch it anew"):
        spool.load("job")


def test_a_job_whose_files_did_not_reach_the_disk_fails_and_says_so(here: Here) -> None:
    async def play() -> None:
        await here.submit("print(1)\n")
        (here.paths.spool / "code" / "main.py").write_bytes(b"")
        with pytest.raises(StateError):
            await here.run()

    asyncio.run(play())
    job = here.store.job(JOB)
    assert job.status == "failed" and f"files of job {JOB}" in job.reason and "launch it anew" in job.reason
    assert here.store.busy() == {}


def test_no_file_of_the_agent_stands_for_an_upload_that_has_gone(
    request_: JobRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "secret").write_text("the agent's own\n")
    monkeypatch.chdir(here)
    for part in (spool.CODE, spool.DATA):
        folder = spool.new_folder()
        for name in (spool.CODE, spool.DATA):
            (folder / name).mkdir()
            (folder / name / "file").write_text("sent\n")
        spool.describe(folder, {spool.CODE: ["file"], spool.DATA: ["file"]})
        spool.commit(folder, part)
        shutil.rmtree(JobPaths(part).spool / part)
        with pytest.raises(StateError, match="launch it anew"):
            spool.load(part)


def test_data_is_kept_while_a_job_waits_and_told_when_it_changed(request_: JobRequest, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("one")
    request = JobRequest("train", dataset=str(data))
    submit(request)
    data.write_text("two")
    kept = spool.load("train").others[spool.DATA]
    assert (kept.single, (kept.root / kept.files[0]).read_text()) == (True, "one")
    spool.forget_sources("train")
    later = spool.load("train")
    assert later.changed == (spool.DATA,)
    assert (later.others[spool.DATA].root / "data.txt").read_text() == "two"

    at_once = JobRequest("at-once", dataset=str(data))
    assert submit(at_once, only_code=True).changed == ()
    assert not (JobPaths("at-once").spool / spool.DATA).exists()


def test_it_travels_whole(request_: JobRequest, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("x" * 100)
    sources = spool.read(request_)
    sent = spool.Sources(sources.code, {spool.DATA: spool.bundle(data)})
    stream = io.BytesIO()
    spool_tar.pack(sent, stream)
    stream.seek(0)
    folder, parts = spool_tar.unpack(stream)
    assert parts == {spool.CODE, spool.DATA}
    spool.commit(folder, "sent")
    found = spool.load("sent")
    assert found.code.digest == sources.code.digest
    assert found.others[spool.DATA] == spool.bundle_of(
        found.others[spool.DATA].root, [("data.txt", found.others[spool.DATA].root / "data.txt")], single=True
    )
    for cut in (1, 700, stream.getvalue().rindex(b"end/\0")):
        with pytest.raises(UgroError):
            spool_tar.unpack(io.BytesIO(stream.getvalue()[:cut]))
    assert list(paths.spool_inbox().iterdir()) == []


Entries = Callable[[tarfile.TarFile], None]


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"x", mode: int = 0o644) -> Entries:
    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mode = kind, link, mode
        member.size = len(data) if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(data))

    return add


def archive(*entries: Entries, end: bool = True) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for add in entries:
            add(tar)
        if end:
            entry("end", tarfile.DIRTYPE)(tar)
    stream.seek(0)
    return stream


SYM, HARD, FIFO, DEV, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE
GOOD = entry("code/train.py")


@pytest.mark.parametrize(
    "entries",
    [
        (entry("/etc/evil"),),
        (entry("../evil"),),
        (entry("code/../../evil"),),
        (entry("code/./x"),),
        (entry("code//x"),),
        (entry("code"),),
        (entry("other/x"),),
        (entry("spool.json"),),
        (GOOD, GOOD),
        (entry("code/x", SYM, "/etc/passwd"),),
        (entry("code/x", SYM, "../../x"),),
        (entry("code/d", DIR), entry("code/d/up", SYM, ".."), entry("code/y", SYM, "d/up/..")),
        (entry("code/d", SYM, "."), entry("code/d/x")),
        (entry("code/d", SYM, "e"), entry("code/d", DIR)),
        (entry("code/x", HARD, "code/train.py"),),
        (GOOD, entry("code/x", HARD, "code/train.py")),
        (entry("code/x", FIFO),),
        (entry("code/x", DEV),),
        (GOOD, entry("code/train.py/x")),
        (entry("data.file/a"), entry("data.file/b")),
        (entry("data.file/a"), entry("data/b")),
        (entry("code/" + "n" * 256),),
    ],
)
def test_nothing_leaves_its_folder(request_: JobRequest, tmp_path: Path, entries: tuple[Entries, ...]) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UgroError):
        spool_tar.unpack(archive(*entries))
    paths.spool_inbox().rmdir()  # empty
    paths.data_dir().rmdir()
    assert sorted(tmp_path.rglob("*")) == before


def test_limits_and_modes(request_: JobRequest) -> None:
    with pytest.raises(UsageError, match="too large"):
        spool_tar.unpack(archive(entry("code/big", data=b"x" * 2000)), max_bytes=1999)
    with pytest.raises(UsageError, match="too large"):
        spool_tar.unpack(archive(*(entry(f"code/{number}") for number in range(11))), max_files=10)
    with pytest.raises(UsageError, match="cut off"):
        spool_tar.unpack(archive(GOOD, end=False))
    with pytest.raises(UsageError, match="no tar"):
        spool_tar.unpack(io.BytesIO(b"not a tar" * 100))
    folder, _parts = spool_tar.unpack(archive(entry("code/run", mode=0o6777)))
    assert (folder / "code" / "run").stat().st_mode & 0o7777 == 0o711


def test_links_out_are_not_sent(request_: JobRequest) -> None:
    Path(request_.workdir or "", "out").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="link out of its folder"):
        spool_tar.pack(spool.read(request_), io.BytesIO())
