# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Where a program is. `shutil.which` does the same, but importing shutil costs a node more than all of its look-ups."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


def which(name: str, path: Optional[str] = None) -> Optional[str]:
    """Return the path of an executable file in the folders of `path` (``$PATH`` unless given), or None."""
    for folder in (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep):
        program = os.path.join(folder or os.curdir, name)
        if os.path.isfile(program) and os.access(program, os.X_OK):
            return program
    return None
