# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What UGRO keeps in a home is for its user alone, from the first contact on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.integration.support import UGRO


def test_the_folder_of_a_node_is_private(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("UGRO_")}
    env |= {"HOME": str(tmp_path), "UGRO_DATA": str(tmp_path / "data")}
    subprocess.run([str(UGRO), "check"], env=env, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert oct((tmp_path / ".ugro").stat().st_mode & 0o777) == "0o700"
