"""`ugro pull`: a whole copy or none, and nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.job_store import JOB, JobStore, job_store  # noqa: F401 - a fixture
from ugro_py.cli import cli
from ugro_py.errors import NotFoundError, StateError, UsageError
from ugro_py.pull import pull


@pytest.fixture
def done(job_store: JobStore) -> JobStore:  # noqa: F811
    one = job_store.attempt()
    job_store.step(one, 0, 1, 3.0)
    job_store.paths.rank_log(0).write_bytes(b"hello\n")
    job_store.paths.config.write_text("{}")
    epoch = job_store.paths.checkpoints / "epoch_1.pt"
    epoch.write_bytes(b"x" * 3_000_000)
    os.link(epoch, job_store.paths.checkpoints / "final.pt")
    job_store.end()
    return job_store


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_everything_is_copied(done: JobStore, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    seen: list[tuple[int, int]] = []
    pulled = pull(JOB, target, progress=lambda done, total: seen.append((done, total)))
    assert tree(target) == tree(done.paths.root)
    assert (target / "logs/rank_0.log").read_bytes() == b"hello\n"
    assert (target / "checkpoints/epoch_1.pt").samefile(target / "checkpoints/final.pt")
    assert not (target / "checkpoints/epoch_1.pt").samefile(done.paths.checkpoints / "epoch_1.pt")
    assert (target / "config.json").stat().st_mtime == pytest.approx(done.paths.config.stat().st_mtime)
    assert seen[-1] == (pulled.size, pulled.size)
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)
    assert os.listdir(target.parent) == ["out"]


def test_what_is_in_the_way_stays(done: JobStore, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    file = tmp_path / "file"
    file.write_text("x")
    link = tmp_path / "link"
    link.symlink_to(mine)
    for target in (mine, file, link):
        for force in (False, True):
            with pytest.raises(UsageError, match=r"choose another"):
                pull(JOB, target, force=force)
    assert tree(mine) == ["thesis.txt"]
    assert link.is_symlink()
    with pytest.raises(UsageError, match="own folder"):
        pull(JOB, done.paths.root / "copy")
    with pytest.raises(UsageError, match="own folder"):
        pull(JOB, done.paths.root, force=True)
    assert sorted(os.listdir(tmp_path)) == ["data", "file", "link", "mine"]


def test_force_replaces_an_earlier_pull(done: JobStore, tmp_path: Path) -> None:
    target = tmp_path / "out"
    pull(JOB, target)
    (target / "stale").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        pull(JOB, target)
    pull(JOB, target, force=True)
    assert tree(target) == tree(done.paths.root)
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


def test_an_empty_folder_is_filled_where_it_is(done: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    inode = here.stat().st_ino
    pull(JOB, Path("."))
    assert tree(here) == tree(done.paths.root)
    assert here.stat().st_ino == inode


def test_links_that_lead_out_are_left_out(done: JobStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    root = done.paths.root
    (root / "checkpoints/latest").symlink_to("epoch_1.pt")
    (root / "checkpoints/broken").symlink_to("gone.pt")
    (root / "absolute").symlink_to(root / "config.json")
    (root / "out").symlink_to("../../../secret")
    (root / "logs/home").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(root)
        server.bind("socket")
    (root / ".checkpoints.gpu1.part").mkdir()
    pulled = pull(JOB, tmp_path / "copy")
    assert {path.name for path in pulled.skipped} == {"absolute", "out", "home", "socket"}
    assert (tmp_path / "copy/checkpoints/latest").readlink() == Path("epoch_1.pt")
    assert (tmp_path / "copy/checkpoints/latest").samefile(tmp_path / "copy/checkpoints/epoch_1.pt")
    assert (tmp_path / "copy/checkpoints/broken").is_symlink()
    copied = tree(tmp_path / "copy")
    assert not {"absolute", "out", "logs/home", "socket", ".checkpoints.gpu1.part"} & set(copied)


def test_a_copy_that_fails_leaves_nothing(done: JobStore, tmp_path: Path) -> None:
    """A file system that is too small, a real one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=1M tmpfs {disk}") != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(StateError, match=r"copy to .*No space left on device.*make room"):
            pull(JOB, disk / "out")
        assert os.listdir(disk) == []
    finally:
        os.system(f"umount {disk}")


def test_nothing_to_pull(tmp_path: Path, done: JobStore) -> None:
    done.store.create_job("empty", "ob", {})
    with pytest.raises(NotFoundError, match="ugro status empty"):
        pull("empty", tmp_path / "out")
    with pytest.raises(UsageError):
        pull("../x", tmp_path / "out")
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(StateError, match="choose another folder"):
        pull(JOB, file / "below")


def test_the_verb(done: JobStore, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["pull", JOB, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.output == f"8 files (6.0 MB) in {tmp_path / 'out'}\n".replace(
        "8 files", f"{len(files(tmp_path / 'out'))} files"
    )
    (done.paths.root / "out").symlink_to("/etc/passwd")
    result = CliRunner().invoke(cli, ["pull", JOB, str(tmp_path / "out"), "--force", "--json"])
    assert "left out" in result.stderr
    assert json.loads(result.stdout) == {
        "job": JOB, "folder": str(tmp_path / "out"), "files": len(files(tmp_path / "out")),
        "bytes": sum(path.stat().st_size for path in files(tmp_path / "out")),
        "left_out": [str(done.paths.root / "out")],
    }  # fmt: skip


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
