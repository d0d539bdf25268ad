# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Each playbook is found and understood by its full name from any folder, with all roles and modules it names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.contract.project import ROOT

PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))


def ansible_playbook(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ansible-playbook")
    env = {**os.environ, "HOME": str(folder), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev")}
    env.pop("ANSIBLE_CONFIG", None)
    command = [str(program), "-i", str(ROOT / "inventory" / "local"), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_playbooks_are_understood_by_name(tmp_path: Path) -> None:
    # All in one call: most of the time goes into starting Ansible.
    done = ansible_playbook(tmp_path, "--syntax-check", *(f"ugro.cluster.{name}" for name in PLAYBOOKS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[DEPRECATION" not in done.stderr
    assert done.stdout.count("playbook: ") == len(PLAYBOOKS)


def test_site_in_check_mode(tmp_path: Path) -> None:
    """Bootstrap and verify one after the other on this machine, which can train: it runs these tests."""
    # How busy this machine is, with these tests for one, is not what this is about.
    patient = {"load_per_cpu_warning": 1e6, "memory_available_gb_warning": 0, "disk_free_gb_warning": 0}
    done = ansible_playbook(tmp_path, "--check", "-e", json.dumps({"verify_thresholds": patient}), "ugro.cluster.site")
    assert done.returncode == 0, done.stdout + done.stderr
    for node in ("gpu-master", "gpu1", "gpu2"):
        assert f"✓ {node}: " in done.stdout
    assert "failed=0" in done.stdout and "unreachable=0" in done.stdout
    assert not (tmp_path / ".ugro" / "venv").exists()
