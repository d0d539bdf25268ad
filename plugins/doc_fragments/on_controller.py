# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation shared by the modules that are action plugins: everything they do happens on the controller."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes of such a module."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: none
  action:
    description: It is an action plugin; everything happens on the controller.
    support: full
"""
