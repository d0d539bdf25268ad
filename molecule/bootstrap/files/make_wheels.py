# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Make wheels of `ugro-probe` 1.0 and 2.0, which pip installs with no network: `make_wheels.py FOLDER`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path


def make(folder: Path, version: str) -> None:
    """Write the wheel of one version: a module, and the metadata pip wants."""
    info = f"ugro_probe-{version}.dist-info"
    files = {
        "ugro_probe.py": f'VERSION = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: ugro-probe\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: ugro\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"ugro_probe-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in [*files.items(), (f"{info}/RECORD", record)]:
            wheel.writestr(name, text)


if __name__ == "__main__":
    for version in ("1.0", "2.0"):
        make(Path(sys.argv[1]), version)
