# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""axe-core on a page: what somebody who sees badly, or uses the keyboard alone, would stumble over."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from playwright.sync_api import Page

_GRAVE = ("serious", "critical")


@functools.cache
def _source() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Return what is gravely wrong with a page, a line for each element."""
    page.evaluate(_source())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe looked at nothing"
    return [
        f"{rule['id']} ({rule['impact']}): {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in _GRAVE
        for node in rule["nodes"][:5]
    ]
