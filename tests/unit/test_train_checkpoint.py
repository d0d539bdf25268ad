"""Checkpoints are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

sys.path.insert(0, str(Path(__file__).parents[2] / "train"))
import checkpoint
from errors import TrainingError, WrongInput


def state(value: float, numbers: int = 1000) -> dict:
    return {"model": {"w": torch.full((numbers,), value)}, "position": {"step": 3}, "text": "x", "none": None}


@pytest.fixture
def folder(tmp_path: Path) -> checkpoint.CheckpointFolder:
    return checkpoint.CheckpointFolder(tmp_path / "checkpoints", keep_steps=2)


def save(folder: checkpoint.CheckpointFolder, step: int, name: str = "") -> Path:
    return folder.save(name or f"step_{step:06d}.pt", state(step), {"step": step, "epoch": 0, "used": step})


def names(folder: checkpoint.CheckpointFolder) -> set[str]:
    return {path.name for path in folder.folder.iterdir()}


def test_saved_state_comes_back_and_its_manifest_describes_it(folder):
    path = save(folder, 3)
    assert torch.equal(checkpoint.load(path)["model"]["w"], state(3)["model"]["w"])
    manifest = json.loads((folder.folder / "step_000003.pt.json").read_text())
    assert manifest["step"] == 3 and manifest["complete"] is True and manifest["size"] == path.stat().st_size
    assert checkpoint.why_invalid(path) is None
    assert names(folder) == {"step_000003.pt", "step_000003.pt.json"}


def test_only_the_newest_step_checkpoints_stay_and_all_epochs(folder):
    save(folder, 1, "epoch_1.pt")
    for step in (2, 3, 4):
        save(folder, step)
    assert {n for n in names(folder) if n.endswith(".pt")} == {"epoch_1.pt", "step_000003.pt", "step_000004.pt"}
    assert "step_000002.pt.json" not in names(folder)


def test_final_is_a_second_name_of_the_last(folder):
    final = folder.mark_final(save(folder, 4))
    assert checkpoint.why_invalid(final) is None
    assert final.samefile(folder.folder / "step_000004.pt")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-10]), "bytes"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\0\1"[-1:]), "hash"),
        (lambda p: p.with_name(p.name + ".json").unlink(), "manifest"),
        (lambda p: p.with_name(p.name + ".json").write_text('{"step": 5'), "manifest"),
        (lambda p: p.unlink(), None),
    ],
    ids=["truncated", "changed", "no manifest", "half a manifest", "gone"],
)
def test_auto_skips_a_damaged_checkpoint(folder, damage, reason):
    good = save(folder, 4)
    bad = save(folder, 5)
    damage(bad)
    path, skipped = checkpoint.find("auto", folder.folder, explicit=True)
    assert path == good
    assert skipped == [] if reason is None else reason in " ".join(skipped) or "newer first"
    found_from_environment, skipped = checkpoint.find(str(bad), folder.folder / "elsewhere", explicit=False)
    assert found_from_environment == good and skipped
    with pytest.raises(WrongInput, match=r"step_000005\.pt"):
        checkpoint.find(str(bad), folder.folder, explicit=True)


def test_auto_without_any_checkpoint_starts_from_scratch(folder):
    assert checkpoint.find("auto", folder.folder, explicit=True) == (None, [])


def test_a_writer_killed_in_the_middle_leaves_the_old_checkpoint(folder, tmp_path):
    good = save(folder, 1)
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(checkpoint.__file__).parent)!r})
import checkpoint, torch
from pathlib import Path
class Dying(checkpoint._HashingWriter):
    def write(self, data):
        if self._stream.tell() > 100_000:
            self._stream.flush()
            os.kill(os.getpid(), 9)
        return super().write(data)
checkpoint._HashingWriter = Dying
folder = checkpoint.CheckpointFolder(Path({str(folder.folder)!r}), 2)
folder.save("step_000002.pt", {{"w": torch.zeros(1_000_000)}}, {{"step": 2}})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert ".step_000002.pt.tmp" in names(folder)
    assert checkpoint.find("auto", folder.folder, explicit=True) == (good, [])
    save(folder, 3)
    assert ".step_000002.pt.tmp" not in names(folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield where
    subprocess.run(["umount", str(where)], check=True)


@pytest.mark.parametrize("check_first", [True, False], ids=["seen before", "met while writing"])
def test_disk_full_is_one_clear_line_and_the_old_checkpoint_stays(small_disk, monkeypatch, check_first):
    monkeypatch.setattr(checkpoint, "_HEADROOM", 0)
    folder = checkpoint.CheckpointFolder(small_disk, keep_steps=2)
    good = save(folder, 1)
    if not check_first:
        monkeypatch.setattr(folder, "_check_space", lambda name, needed: None)
    with pytest.raises(TrainingError, match=r"step_000002\.pt.*earlier checkpoints are intact.*make room") as error:
        folder.save("step_000002.pt", state(2, 1_000_000), {"step": 2})
    assert "\n" not in str(error.value)
    assert names(folder) == {"step_000001.pt", "step_000001.pt.json"}
    assert checkpoint.why_invalid(good) is None


def test_loading_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WrongInput, match="cannot be loaded"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
