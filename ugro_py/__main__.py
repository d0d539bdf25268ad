"""`python -m ugro_py`: the command `ugro` under the Python that runs already, whatever is on PATH."""

from __future__ import annotations

from ugro_py.cli import main

if __name__ == "__main__":
    main()
