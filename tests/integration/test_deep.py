# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro check --deep` uses the nodes as training will."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.support import Ugro, edited
from tests.lab import Lab


def findings(verdict: dict[str, Any], node: str) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in verdict["nodes"][node]["findings"]}


@pytest.mark.lab
def test_real_hosts_compute_and_reduce_together(ugro: Ugro) -> None:
    verdict = ugro.json("check", "--deep", "--json")
    for node in ("gpu-master", "gpu1", "gpu2"):
        found = findings(verdict, node)
        assert found["compute"]["severity"] == "ok"
        assert found["compute"]["text"].endswith("computes on cpu")
        assert found["all_reduce"]["severity"] == "ok"
        assert "with 3 nodes" in found["all_reduce"]["text"]


@pytest.mark.lab
def test_a_torch_that_does_not_import_is_named_and_the_others_go_on(make_ugro: Callable[..., Ugro], lab3: Lab) -> None:
    """Its metadata is whole, so only --deep can tell."""
    gpu1 = lab3.host("gpu1")
    folder = f"{gpu1.home}/broken"
    gpu1.run(["mkdir", "-p", f"{folder}/torch"])
    gpu1.run(["tee", f"{folder}/torch/__init__.py"], input='raise ImportError("libcudart is gone")\n')
    gpu1.run(["tee", f"{folder}/python"], input=f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    gpu1.run(["chmod", "+x", f"{folder}/python"])

    def change(hosts: dict[str, Any]) -> None:
        hosts["gpu1"]["ugro_python"] = f"{folder}/python"

    ugro = make_ugro(edited(lab3, "broken.yml", change), lab3)
    verdict = ugro.json("check", "--deep", "--json", code=5)
    found = findings(verdict, "gpu1")
    assert found["compute"]["severity"] == "critical"
    assert "libcudart is gone" in found["compute"]["text"]
    assert "all_reduce" not in found
    assert "with 2 nodes" in findings(verdict, "gpu2")["all_reduce"]["text"]
