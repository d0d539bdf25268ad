# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Where the code of a job lay is no difference where it is the same code, and its own copy is no information."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ugro_py.experiments.diff import differences
from ugro_py.paths import JobPaths, is_spooled
from ugro_py.web.capsule_view import capsule_view


def _ran(job: str, folder: str, digest: str | None) -> None:
    paths = JobPaths(job)
    paths.root.mkdir(parents=True)
    capsule = {"job_id": job, "request": {"script": "a.py", "workdir": folder}, "nodes": [],
               "code": {"folder": folder, "digest": digest, "git": None}}  # fmt: skip
    paths.config.write_text(json.dumps(capsule))


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))


def _code(*jobs: str) -> dict[str, tuple[object, ...]]:
    return {row.key: row.values for row in differences(jobs, [{}] * len(jobs)) if row.section == "code"}


def test_the_jobs_own_copy_of_its_code_is_no_folder_to_tell() -> None:
    for job in ("one", "two"):
        _ran(job, str(JobPaths(job).spool / "code"), f"of {job}")
    assert _code("one", "two") == {"digest": ("of one", "of two")}
    view = capsule_view("one", owner=True)
    assert view is not None
    shown = repr(view.sections)
    assert "of one" in shown and "spool" not in shown
    assert not is_spooled("/home/ob/spool/code") and not is_spooled(None) and not is_spooled("")


def test_the_same_code_in_another_folder_is_no_difference() -> None:
    _ran("one", "/home/ob/one", "same")
    _ran("two", "/home/ob/two", "same")
    _ran("three", "/home/ob/two", "other")
    _ran("four", "/home/ob/four", None)
    assert _code("one", "two") == {"digest": ("same", "same")}
    assert _code("one", "three")["folder"] == ("/home/ob/one", "/home/ob/two")
    assert _code("one", "four")["folder"] == ("/home/ob/one", "/home/ob/four")
    assert _code("one")["folder"] == ("/home/ob/one",)
