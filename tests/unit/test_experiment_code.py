# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""How the code of two jobs differs: from what their spools kept, whatever their owners have edited since."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ugro_py.experiments import code
from ugro_py.paths import JobPaths
from ugro_py.queue import spool
from ugro_py.request.job import JobRequest

Submit = Callable[[str, dict[str, bytes]], None]


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Keep files as the code of a job."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path / "data"))

    def keep(job: str, files: dict[str, bytes]) -> None:
        folder = tmp_path / job
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        request = JobRequest(job, script="train.py", workdir=str(folder))
        spool.commit(spool.write(spool.read(request)), job)

    return keep


def test_lines_that_differ(submit: Submit, tmp_path: Path) -> None:
    submit("a", {"train.py": b"lr = 1\nbatch = 2\n", "same.py": b"x\n", "gone.py": b"old"})
    submit("b", {"train.py": b"lr = 3\nbatch = 2\n", "same.py": b"x\n", "lib/new.py": b"new\n"})
    (tmp_path / "a" / "train.py").write_text("edited since\n")
    assert code.unified("a", "b") == (
        "--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-old\n\\ No newline at end of file\n"
        "--- /dev/null\n+++ b/lib/new.py\n@@ -0,0 +1 @@\n+new\n"
        "--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n-lr = 1\n+lr = 3\n batch = 2\n"
    )
    assert code.unified("a", "a") == ""


def test_what_is_no_text_or_large_is_only_named(submit: Submit) -> None:
    submit("a", {"train.py": b"", "x.bin": b"\0a", "y.txt": b"\xff\xfe", "big.txt": b"1\n" * code.LARGEST_FILE})
    submit("b", {"train.py": b"", "x.bin": b"\0b", "y.txt": b"text\n", "big.txt": b"2\n" * code.LARGEST_FILE})
    assert code.unified("a", "b") == "".join(
        f"Binary files a/{name} and b/{name} differ\n" for name in ("big.txt", "x.bin", "y.txt")
    )


def test_a_very_long_difference_is_cut_off(submit: Submit) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(10_000))
    submit("a", {"train.py": b"", "a.txt": lines, "b.txt": lines, "c.txt": lines})
    submit("b", {"train.py": b""})
    found = code.unified("a", "b")
    assert found is not None
    assert found.endswith("to see all of it\n")
    assert len(found) < 1.5 * code.LARGEST_DIFF


def test_code_that_was_not_kept_or_is_damaged(submit: Submit) -> None:
    submit("a", {"train.py": b"x\n"})
    assert code.unified("a", "nothing") is None
    (JobPaths("a").spool / "code" / "train.py").write_bytes(b"y\n")
    submit("b", {"train.py": b"x\n"})
    assert code.unified("a", "b") is None, "it is not what was submitted"
