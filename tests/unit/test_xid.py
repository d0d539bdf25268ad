# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Xid errors: from the kernel log to a finding, a GPU that no job gets, and nothing for ever."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ugro.cluster.plugins.module_utils import gpu_values, health, kernel_log, xid

OFF_THE_BUS = "NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"[ 123.4] {OFF_THE_BUS}", (79, "0000:01:00")),
        ("4,77,99,-;NVRM: Xid (PCI:0000:65:00): 31, pid=4242, name=python, Ch 00000008", (31, "0000:65:00")),
        ("NVRM: Xid (0000:01:00): 13, Graphics Exception", (13, "0000:01:00")),
        ("NVRM: Xid (PCI:0000:01:00): 154", (154, "0000:01:00")),
        ("NVRM: GPU at PCI:0000:01:00: GPU-5c89852c", None),
        ("NVRM: Xid (PCI:0000:01:00", None),
        ("NVRM: Xid (PCI:0000:01:00): seventy-nine", None),
        ("", None),
    ],
)
def test_messages_of_the_driver(line: str, found: tuple[int, str] | None) -> None:
    parsed = xid.parse(line)
    assert (parsed and (parsed["code"], parsed["pci"])) == found


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("00000000:01:00.0", "0000:01:00"),
        ("0000:0A:00.0", "0000:0a:00"),
        ("01:00", "0000:01:00"),
        (None, ""),
        ("x", "x"),
    ],
)
def test_addresses_have_one_form(address: str | None, key: str) -> None:
    assert xid.pci_key(address) == key


def test_every_known_number_has_what_a_finding_needs() -> None:
    for code in (13, 31, 43, 45, 48, 63, 64, 74, 79, 94, 95, 119):
        assert code in xid.KNOWN
    for severity, what, remedy in xid.KNOWN.values():
        assert severity in ("ok", "warning", "critical") and what
        assert remedy.count("%") <= 1 and (remedy or severity == "ok")
    assert xid.meaning(9999)[0] == "warning"


def test_the_kernel_log_is_read_once_and_then_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "kmsg"
    log.write_text("6,1,1000,-;Linux version 6.1\n" + f"4,2,{int((time.monotonic() - 60) * 1e6)},-;{OFF_THE_BUS}\n")
    monkeypatch.setattr(kernel_log, "_KMSG", str(log))
    reader = kernel_log.KernelLog()
    first = reader.read()
    assert first["error"] is None
    assert [(item["code"], item["pci"]) for item in first["xids"]] == [(79, "0000:01:00")]
    assert abs(first["xids"][0]["at"] - (time.time() - 60)) < 5
    with log.open("a") as file:
        file.write("4,3,1000,-;" + OFF_THE_BUS.replace("79", "43") + "\n")
    assert [item["code"] for item in reader.read()["xids"]] == [79, 43]
    assert [item["code"] for item in reader.read()["xids"]] == [79, 43]


def test_a_user_who_may_not_read_the_kernel_log_asks_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "journalctl"
    program.write_text(
        "#!/bin/sh\necho '"
        + json.dumps({"MESSAGE": OFF_THE_BUS.replace("'", ""), "__REALTIME_TIMESTAMP": "1768910400250000"})
        + """'\necho '{"MESSAGE": [1, 2], "__REALTIME_TIMESTAMP": "1"}'\necho no json\n"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(kernel_log, "_KMSG", str(tmp_path / "missing"))
    read = kernel_log.KernelLog().read()
    assert [(item["code"], item["at"]) for item in read["xids"]] == [(79, 1768910400.25)]
    assert read["error"] is None
    program.write_text("#!/bin/sh\necho 'No journal files were opened due to insufficient permissions.' >&2\nexit 1\n")
    read = kernel_log.KernelLog().read()
    assert read == {"xids": [], "error": "No journal files were opened due to insufficient permissions."}


def report(*found: tuple[float, int], **card: Any) -> dict[str, Any]:
    gpu = gpu_values.unknown(0)
    gpu.update(uuid="GPU-0", pci="0000:01:00", name="RTX 4070", temperature_c=50, **card)
    xids = [{"at": at, "code": code, "pci": "0000:01:00", "text": ""} for at, code in found]
    return {"source": "nvml", "driver": "1", "cuda": None, "error": None, "gpus": [gpu], "xids": xids}


NODE = {"name": "gpu1", "clock": 1_000_000.0}


def judged(gpu: dict[str, Any], since: float = 0.0, **limits: float) -> list[tuple[str, str, str]]:
    from ansible_collections.ugro.cluster.plugins.module_utils.gpu_findings import gpu_findings

    thresholds = health.limits_of(limits)
    found = gpu_findings(gpu, thresholds, {}, "gpu1", health.oldest_xid(NODE, thresholds, since))
    return [(item["severity"], item["text"], item["remedy"]) for item in found if item["check"] == "gpu_xid"]


def test_an_xid_is_a_finding_with_its_gpu_what_it_means_and_what_to_do() -> None:
    severity, text, remedy = judged(report((999_000.0, 79), (999_500.0, 79)))[0]
    assert severity == "critical"
    assert text == "GPU 0 reported Xid 79, fell off the bus, at 1970-01-12 13:38:20 UTC (2 times)"
    assert remedy.startswith("reboot gpu1")
    assert [item[0] for item in judged(report((999_000.0, 43)))] == ["warning"]
    assert judged(report((999_000.0, 45))) == [], "a clean-up is no problem"


def test_an_old_xid_does_not_alarm_for_ever() -> None:
    old = report((1_000_000.0 - 25 * 3600, 79))
    assert judged(old) == [] and len(judged(old, xid_hours=48)) == 1
    recent = report((999_000.0, 79))
    assert judged(recent, since=999_001.0) == [], "the node was resumed since"
    assert health.unusable(recent, NODE, since=999_001.0) == {}


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        (report((999_000.0, 79)), "GPU 0 of gpu1 is sick (Xid 79, fell off the bus)"),
        (report((999_000.0, 43)), None),
        (report(lost=True), "GPU 0 of gpu1 is lost"),
        (report(ecc={"corrected": 5, "uncorrected": 1}), "GPU 0 of gpu1 has uncorrected memory errors"),
        (
            report(processes=[{"pid": 7, "type": "compute", "user": "eve", "name": "python", "job": None}]),
            "GPU 0 of gpu1 is used by eve (python, PID 7)",
        ),
        (report(processes=[{"pid": 7, "type": "compute", "user": "ob", "name": "python", "job": "job_1"}]), None),
        (report(processes=[{"pid": 7, "type": "graphics", "user": "ob", "name": "Xorg", "job": None}]), None),
        (report(throttle_reasons=["hw_slowdown"]), None),
    ],
)
def test_gpus_that_no_job_is_given(gpu: dict[str, Any], why: str | None) -> None:
    assert health.unusable(gpu, NODE) == ({"GPU-0": why} if why else {})
