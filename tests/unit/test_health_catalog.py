# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The list of checks names every check there is, every threshold, and is what the documentation shows."""

from __future__ import annotations

import ast

from ansible_collections.ugro.cluster.plugins.module_utils import health

from ugro_py import paths
from ugro_py.health import catalog

SOURCES = (
    paths.module_utils_dir() / "health.py",
    paths.module_utils_dir() / "gpu_findings.py",
    paths.collection_dir() / "ugro_py" / "compare.py",
    paths.collection_dir() / "ugro_py" / "verify.py",
    *sorted((paths.collection_dir() / "ugro_py" / "health").glob("*.py")),
)


def named_checks() -> set[str]:
    """Return the checks that the code makes findings of."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                position = {"finding": 0, "Finding": 1}.get(node.func.id)
                if position is not None and len(node.args) > position:
                    argument = node.args[position]
                    if isinstance(argument, ast.Constant):
                        found.add(str(argument.value))
    return found


def test_every_check_is_in_the_list_and_no_other() -> None:
    compared = {f"{field}_version" for field in ("torch", "cuda", "nccl", "python", "transformers")}
    assert named_checks() | compared == set(catalog.CHECKS)


def test_the_seeds_checks_have_their_names() -> None:
    assert set(catalog.CHECKS) >= {
        "ssh_reachable", "gpu_available", "pytorch_ready", "disk_space_gb", "network_latency_ms"
    }  # fmt: skip


def test_every_threshold_belongs_to_one_check() -> None:
    named = [limit for info in catalog.CHECKS.values() for limit in info.thresholds]
    assert sorted(named) == sorted(health.DEFAULT_THRESHOLDS)


def test_the_documentation_shows_this_list() -> None:
    page = (paths.collection_dir() / "docs" / "health.md").read_text(encoding="utf-8")
    assert catalog.table() in page
