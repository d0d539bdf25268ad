# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""GPU readings of this node: by NVML, else by nvidia-smi, else there is no GPU.

A GB is 2**30 bytes. A reading that a GPU does not support is None, a GPU that fell off the bus is an entry
with ``lost`` true: a sick GPU is data, never an exception.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time

from . import deadline, kernel_log, nvidia_smi, nvml

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_LIBRARY = "libnvidia-ml.so.1"
_PCI_DEVICES = "/sys/bus/pci/devices"


def read_gpus(
    deadline_s: float = 5.0, train_python: Optional[str] = None, kernel: Optional[kernel_log.KernelLog] = None
) -> Dict[str, Any]:
    """Return everything about the GPUs of this node, within about `deadline_s` seconds.

    Args:
        deadline_s: when to give up on a driver that does not answer.
        train_python: the interpreter that trains; its nvidia-ml-py is used when this Python has none.
        kernel: reads the kernel log; one that is kept reads only what is new.

    Returns:
        A dictionary with

        - ``source``: ``nvml``, ``nvidia-smi`` or ``none``;
        - ``driver``, ``cuda``: versions of the driver and the newest CUDA it supports, or None;
        - ``error``: None or ``{"kind", "text"}``, where kind is ``driver_library_mismatch``, ``no_driver``
          (NVIDIA hardware and no driver that works), ``timeout`` or ``failed``;
        - ``gpus``: a list of ``index, uuid, pci, name, vram_total_gb, vram_used_gb, util_percent, temperature_c,
          power_w, power_limit_w, clock_sm_mhz, clock_mem_mhz, throttle_reasons`` (names), ``ecc``
          (``{corrected, uncorrected}`` since the driver was loaded, or None), ``pcie`` (``{generation, width,
          max_generation, max_width}`` or None), ``mig`` (bool or None), ``processes`` (see
          `gpu_values.process`), ``lost`` (bool) and ``error`` (text or None);
        - ``xids``: the Xid errors of this boot, ``[{at, code, pci, text}]`` with at in Unix time, and ``xid_error``:
          why the kernel log could not be read, or None. Without NVIDIA hardware nobody looks.
    """
    end = time.monotonic() + deadline_s
    result = _read(deadline_s, end, train_python)
    result.update(xids=[], xid_error=None)
    if result["source"] != "none" or result["error"]:
        read = (kernel or kernel_log.KernelLog()).read(max(0.5, end - time.monotonic()))
        result.update(xids=read["xids"], xid_error=read["error"])
    return result


def _read(deadline_s: float, end: float, train_python: Optional[str]) -> Dict[str, Any]:
    result: Dict[str, Any] = {"source": "none", "driver": None, "cuda": None, "error": None, "gpus": []}
    if _has_library():
        pynvml = nvml.load(train_python)
        if pynvml is not None:
            return _by_nvml(result, pynvml, deadline_s)
    program = nvidia_smi.find()
    if program is not None:
        return _by_nvidia_smi(result, program, end - time.monotonic())
    hardware = _nvidia_devices()
    if hardware:
        result["error"] = {
            "kind": "no_driver",
            "text": "%d NVIDIA device(s) on the PCI bus, but neither %s nor nvidia-smi" % (hardware, _LIBRARY),
        }
    return result


def _by_nvml(result: Dict[str, Any], pynvml: Any, deadline_s: float) -> Dict[str, Any]:
    def take() -> Dict[str, Any]:
        try:
            session = nvml.Nvml(pynvml)
            return {"driver": session.driver(), "cuda": session.cuda(), "gpus": session.gpus()}
        except nvml.NvmlError as error:
            return {"error": {"kind": error.kind, "text": str(error)}}

    result["source"] = "nvml"
    try:
        result.update(deadline.Call(take).result(deadline_s))
    except deadline.DeadlineError:
        result["error"] = {"kind": "timeout", "text": "NVML does not answer within %g s" % deadline_s}
    except deadline.CallError as error:
        result["error"] = {"kind": "failed", "text": "NVML: %s" % error}
    return _without_driver(result)


def _by_nvidia_smi(result: Dict[str, Any], program: str, deadline_s: float) -> Dict[str, Any]:
    result["source"] = "nvidia-smi"
    try:
        result.update(nvidia_smi.read(program, deadline_s))
    except nvidia_smi.SmiError as error:
        text = str(error)
        if error.kind == "timeout":
            text += " within %g s" % round(deadline_s, 1)
        result["error"] = {"kind": error.kind, "text": text}
    return _without_driver(result)


def _without_driver(result: Dict[str, Any]) -> Dict[str, Any]:
    """Take a missing driver for what it is on a machine without NVIDIA hardware: no GPU, no error."""
    if result["error"] and result["error"]["kind"] == "no_driver" and not _nvidia_devices():
        result.update(source="none", error=None)
    return result


def _has_library() -> bool:
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def _nvidia_devices() -> int:
    """Return how many NVIDIA display or 3D controllers are on the PCI bus."""
    count = 0
    try:
        devices = os.listdir(_PCI_DEVICES)
    except OSError:
        return 0
    for device in devices:
        try:
            with open(os.path.join(_PCI_DEVICES, device, "vendor"), encoding="ascii") as file:
                vendor = file.read().strip()
            with open(os.path.join(_PCI_DEVICES, device, "class"), encoding="ascii") as file:
                kind = file.read().strip()
        except OSError:
            continue  # unplugged meanwhile
        count += vendor == "0x10de" and kind.startswith("0x03")
    return count


class Sampler:
    """Repeated cheap readings for telemetry. NVML is opened once; without a GPU a reading costs nothing.

    Readings are taken in a thread, so that nvidia-smi (a good part of a second) or a driver that hangs delays
    the samples and not the caller.

    Args:
        wait_s: how long `read` waits for a fresh reading; NVML answers in a few milliseconds.
        max_age_s: how old the newest reading may be to be still worth returning.
        train_python: as for `read_gpus`.
    """

    def __init__(self, wait_s: float = 0.05, max_age_s: float = 5.0, train_python: Optional[str] = None) -> None:
        self._wait_s = wait_s
        self._max_age_s = max_age_s
        self._program: Optional[str] = None
        self._pynvml = nvml.load(train_python) if _has_library() else None
        self._session: Optional[nvml.Nvml] = None
        if self._pynvml is None:
            self._program = nvidia_smi.find()
        self._thread: Optional[threading.Thread] = None
        self._newest: List[Dict[str, Any]] = []
        self._taken_at = 0.0

    def read(self) -> List[Dict[str, Any]]:
        """Return the newest reading of GPUs, see `gpu_values.sample`.

        They are those that answer; ``throttle`` are names of `gpu_values.throttle_reasons`, but ``gpu_idle``.

        It is the newest reading. The list is empty without a GPU, and when the driver has not answered for
        `max_age_s` seconds.
        """
        if self._pynvml is None and self._program is None:
            return []
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._take, name="gpu-sample", daemon=True)
            self._thread.start()
        self._thread.join(self._wait_s)
        return self._newest if time.monotonic() - self._taken_at <= self._max_age_s else []

    @property
    def taken_at(self) -> float:
        """When the newest reading was taken, by `time.monotonic`; 0 before the first."""
        return self._taken_at

    def _take(self) -> None:
        try:
            if self._program is not None:
                self._newest = nvidia_smi.samples(self._program, self._max_age_s)
            else:
                if self._session is None:
                    self._session = nvml.Nvml(self._pynvml)
                self._newest = self._session.samples()
            self._taken_at = time.monotonic()
        except nvml.NvmlError as error:
            if error.kind == "no_driver":
                self._pynvml = None  # no GPU on this node: never ask again
        except nvidia_smi.SmiError as error:
            if error.kind == "no_driver":
                self._program = None

    def close(self) -> None:
        """Give NVML back."""
        if self._session is not None and (self._thread is None or not self._thread.is_alive()):
            self._session.close()
            self._session = None


_sampler: Optional[Sampler] = None


def sample() -> List[Dict[str, Any]]:
    """Return a reading of this process's one `Sampler`, made at the first call."""
    global _sampler
    if _sampler is None:
        _sampler = Sampler()
    return _sampler.read()
