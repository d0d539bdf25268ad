"""Every job as an experiment: its figures, tags and notes, lists and comparisons of them."""

from __future__ import annotations

from ugro_py.experiments.figures import finish, refresh_notes
from ugro_py.experiments.listing import Page, compare, ls, one

__all__ = ["Page", "compare", "finish", "ls", "one", "refresh_notes"]
