# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""GPU readings through the program ``nvidia-smi``, for nodes whose Python has no nvidia-ml-py."""

from __future__ import annotations

import re
import time

from . import gpu_values, programs, xid

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    import subprocess
    from typing import Any, Dict, List, Optional, Tuple

# Fields of --query-gpu in our order. The first ones are enough for a telemetry sample.
_QUICK = (
    "index", "uuid", "pci.bus_id", "memory.used", "utilization.gpu", "temperature.gpu", "power.draw", "clocks.sm",
    "clocks_throttle_reasons.active", "pcie.link.gen.current", "pcie.link.width.current",
)  # fmt: skip
_FULL = (
    *_QUICK,
    "name",
    "driver_version",
    "memory.total",
    "enforced.power.limit",
    "clocks.mem",
    "ecc.errors.corrected.volatile.total",
    "ecc.errors.uncorrected.volatile.total",
    "pcie.link.gen.max",
    "pcie.link.width.max",
    "mig.mode.current",
)

_INVALID_FIELD = re.compile(r'Field "([^"]+)" is not a valid field')
_NO_HANDLE = re.compile(r"Unable to determine the device handle for GPU\s*([0-9A-Fa-f:.]+): *(.*)")
_CUDA = re.compile(r"CUDA Version *: *([0-9.]+)")
_LOST_WORDS = ("GPU is lost", "GPU requires reset")
_KINDS = (
    ("Driver/library version mismatch", "driver_library_mismatch"),
    ("couldn't communicate with the NVIDIA driver", "no_driver"),
    ("NVIDIA driver is not loaded", "no_driver"),
)


class SmiError(Exception):
    """nvidia-smi could not read anything. `kind` is one of the kinds of `gpu.read_gpus`."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(" ".join(text.split()))


def find() -> Optional[str]:
    """Return the path of nvidia-smi, or None."""
    return programs.which("nvidia-smi") or programs.which("nvidia-smi", path="/usr/bin:/usr/lib/wsl/lib:/opt/bin")


def read(program: str, deadline_s: float) -> Dict[str, Any]:
    """Return ``{"driver", "cuda", "gpus"}`` (see `gpu.read_gpus`), within `deadline_s` seconds.

    The three questions (GPUs, processes, CUDA version) are asked at the same time: each start of nvidia-smi costs
    a good part of a second on a machine without the persistence daemon.

    Raises:
        SmiError: no GPU could be read.
    """
    end = time.monotonic() + deadline_s
    apps = _start(
        program, "--query-compute-apps=gpu_uuid,pid,used_memory,process_name", "--format=csv,noheader,nounits"
    )
    version = _start(program, "--version")
    try:
        gpus, rows = _query(program, _FULL, end)
        by_uuid = {gpu["uuid"]: gpu for gpu in gpus if gpu["uuid"]}
        for row in _rows(_finish(apps, end)[1]):
            if len(row) == 4 and row[0] in by_uuid and row[1].isdigit():
                by_uuid[row[0]]["processes"].append(
                    gpu_values.process(int(row[1]), "compute", _mib(row[2]), row[3].rpartition("/")[2])
                )
        cuda = _CUDA.search(_finish(version, end)[1])
    finally:
        for child in (apps, version):
            _end(child)
    driver = next((row["driver_version"] for row in rows if row.get("driver_version")), None)
    return {"driver": driver, "cuda": cuda.group(1) if cuda else None, "gpus": gpus}


def samples(program: str, deadline_s: float) -> List[Dict[str, Any]]:
    """Return a telemetry sample of every GPU that answers (see `gpu.Sampler`).

    Raises:
        SmiError: no GPU could be read.
    """
    return [
        gpu_values.sample(gpu) for gpu in _query(program, _QUICK, time.monotonic() + deadline_s)[0] if not gpu["lost"]
    ]


def _query(
    program: str, fields: Tuple[str, ...], end: float
) -> Tuple[List[Dict[str, Any]], List[Dict[str, Optional[str]]]]:
    """Return the readings and the rows they come from; fields that this driver does not know are left out."""
    while True:
        child = _start(program, "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits")
        code, output = _finish(child, end)
        invalid = _INVALID_FIELD.search(output)
        if not invalid or invalid.group(1) not in fields:
            break
        fields = tuple(field for field in fields if field != invalid.group(1))
    raw = [row for row in _rows(output) if len(row) == len(fields)]
    rows = [{field: _value(row[column]) for column, field in enumerate(fields)} for row in raw]
    gpus = [(row["pci.bus_id"] or "", _gpu(row, " ".join(raw[number]))) for number, row in enumerate(rows)]
    for bus_id, reason in _NO_HANDLE.findall(output):
        gpu = gpu_values.unknown(None)
        gpu.update(
            lost=True, pci=xid.pci_key(bus_id), error="%s (PCI %s)" % (reason.strip() or "no device handle", bus_id)
        )
        gpus.append((bus_id, gpu))
    if not gpus and (code or "No devices were found" not in output):
        kind = next((kind for words, kind in _KINDS if words in output), "failed")
        if "No devices were found" in output:
            return [], []
        raise SmiError(kind, "nvidia-smi: %s" % (output.strip() or "exit code %d" % code))
    gpus.sort(key=lambda entry: _bus_key(entry[0]))
    for position, (_bus_id, gpu) in enumerate(gpus):
        # nvidia-smi numbers GPUs by PCI bus, so a lost one has the number of its place.
        gpu["index"] = position if gpu["index"] is None else gpu["index"]
    return [gpu for _bus_id, gpu in gpus], rows


def _bus_key(bus_id: str) -> Tuple[int, ...]:
    """Return a PCI address ("00000000:01:00.0", "0000:01:00.0") as numbers, to sort by."""
    return tuple(int(part, 16) for part in re.split("[:.]", bus_id) if part)


def _gpu(row: Dict[str, Optional[str]], raw: str) -> Dict[str, Any]:
    gpu = gpu_values.unknown(_integer(row.get("index")))
    mask = row.get("clocks_throttle_reasons.active")
    mig = row.get("mig.mode.current")
    lost = next((words for words in _LOST_WORDS if words in raw), None)
    gpu.update(
        uuid=row.get("uuid"),
        pci=row.get("pci.bus_id") and xid.pci_key(row["pci.bus_id"]),
        name=row.get("name"),
        vram_total_gb=_mib(row.get("memory.total")),
        vram_used_gb=_mib(row.get("memory.used")),
        util_percent=_integer(row.get("utilization.gpu")),
        temperature_c=_integer(row.get("temperature.gpu")),
        power_w=gpu_values.scaled(_number(row.get("power.draw")), 1),
        power_limit_w=gpu_values.scaled(_number(row.get("enforced.power.limit")), 1),
        clock_sm_mhz=_integer(row.get("clocks.sm")),
        clock_mem_mhz=_integer(row.get("clocks.mem")),
        throttle_reasons=gpu_values.throttle_reasons(
            int(mask, 16) if mask and re.fullmatch("0x[0-9A-Fa-f]+", mask) else None
        ),
        ecc=gpu_values.ecc(
            _integer(row.get("ecc.errors.corrected.volatile.total")),
            _integer(row.get("ecc.errors.uncorrected.volatile.total")),
        ),
        pcie=gpu_values.pcie(
            _integer(row.get("pcie.link.gen.current")),
            _integer(row.get("pcie.link.width.current")),
            _integer(row.get("pcie.link.gen.max")),
            _integer(row.get("pcie.link.width.max")),
        ),
        mig=None if mig is None else mig == "Enabled",
        lost=lost is not None,
        error=lost,
    )
    return gpu


def _rows(output: str) -> List[List[str]]:
    """Return the comma-separated lines; messages between them have another number of cells."""
    import csv

    return [[cell.strip() for cell in row] for row in csv.reader(output.splitlines(), skipinitialspace=True)]


def _value(cell: str) -> Optional[str]:
    """Return a cell, or None for "[N/A]", "[Not Supported]", "[Unknown Error]" and their like."""
    return None if not cell or cell.startswith("[") or cell == "N/A" else cell


def _number(text: Optional[str]) -> Optional[float]:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _integer(text: Optional[str]) -> Optional[int]:
    number = _number(text)
    return None if number is None else int(number)


def _mib(text: Optional[str]) -> Optional[float]:
    number = _number(text)
    return None if number is None else gpu_values.gb(number * 2**20)


def _start(program: str, *options: str) -> "subprocess.Popen[str]":
    import subprocess

    try:
        return subprocess.Popen(
            [program, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise SmiError("failed", "%s: %s" % (program, error.strerror)) from error


def _finish(child: "subprocess.Popen[str]", end: float) -> Tuple[int, str]:
    """Return exit code and output of a child, or kill it when the time is over."""
    import subprocess

    try:
        output = child.communicate(timeout=max(0.01, end - time.monotonic()))[0]
    except subprocess.TimeoutExpired:
        _end(child)
        raise SmiError("timeout", "nvidia-smi does not answer") from None
    return child.returncode, output


def _end(child: "subprocess.Popen[str]") -> None:
    """Kill a child that still runs; one that is stuck in the kernel is left behind."""
    import subprocess

    if child.poll() is None:
        child.kill()
        try:
            child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            pass  # it holds the driver, not us
    if child.stdout:
        child.stdout.close()
