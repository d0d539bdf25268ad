# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The folder of a job in a central store, without anything in it, for tests of what reads and writes its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ugro_py.paths import JobPaths

JOB = "job_1"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobPaths:
    """The paths of the job `JOB`, whose folder is there."""
    monkeypatch.setenv("UGRO_DATA", str(tmp_path))
    found = JobPaths(JOB)
    found.root.mkdir(parents=True)
    return found
