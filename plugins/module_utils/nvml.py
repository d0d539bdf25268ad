# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""GPU readings through NVML (nvidia-ml-py, imported as ``pynvml``).

Every reading is taken on its own: one that a GPU does not support is None, and a GPU that fell off the bus is an
entry with ``lost`` true. Only NVML refusing to start at all is an error.
"""

from __future__ import annotations

import glob
import os
import sys

from . import gpu_values, xid

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

# Codes of nvml.h that decide what a failure means.
_DRIVER_NOT_LOADED = 9
_LIBRARY_NOT_FOUND = 12
_GPU_IS_LOST = 15
_RESET_REQUIRED = 16
_LIB_RM_VERSION_MISMATCH = 18
_LOST_CODES = (_GPU_IS_LOST, _RESET_REQUIRED)

_ERROR_KINDS = {
    _LIB_RM_VERSION_MISMATCH: "driver_library_mismatch",
    _DRIVER_NOT_LOADED: "no_driver",
    _LIBRARY_NOT_FOUND: "no_driver",
}


class NvmlError(Exception):
    """NVML does not start. `kind` is one of the kinds of `gpu.read_gpus`."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


def load(train_python: Optional[str] = None) -> Optional[Any]:
    """Return the module ``pynvml``, from this interpreter or from the one that trains, else None.

    It is one file of pure Python, so the training environment's copy serves the system's Python as well.

    Args:
        train_python: path of the interpreter whose site-packages are searched too.
    """
    import importlib.util

    if "pynvml" in sys.modules:
        return sys.modules["pynvml"]
    spec = importlib.util.find_spec("pynvml")
    if spec is None and train_python:
        prefix = os.path.dirname(os.path.dirname(os.path.expanduser(train_python)))
        for path in sorted(glob.glob(os.path.join(glob.escape(prefix), "lib/python3*/site-packages/pynvml.py"))):
            spec = importlib.util.spec_from_file_location("pynvml", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pynvml"] = module
    try:
        spec.loader.exec_module(module)
    except Exception:  # noqa: BLE001 - a broken package of the user's is no reason to fail: nvidia-smi remains
        del sys.modules["pynvml"]
        return None
    return module


class Nvml:
    """An open NVML session.

    Args:
        pynvml: the module from `load`.

    Raises:
        NvmlError: NVML does not start.
    """

    def __init__(self, pynvml: Any) -> None:
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlError(_ERROR_KINDS.get(error.value, "failed"), "NVML: %s" % error) from error

    def close(self) -> None:
        """End the session."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            pass  # the process is about to forget it anyway

    def _try(self, name: str, *args: Any) -> Any:
        """Call the NVML function `name`; None where this driver or GPU does not have that reading."""
        try:
            return getattr(self._nvml, name)(*args)
        except (self._nvml.NVMLError, AttributeError):
            return None

    def driver(self) -> Optional[str]:
        """Return the version of the kernel driver ("550.54.14")."""
        return gpu_values.text(self._try("nvmlSystemGetDriverVersion"))

    def cuda(self) -> Optional[str]:
        """Return the newest CUDA that the driver supports ("12.4")."""
        number = self._try("nvmlSystemGetCudaDriverVersion_v2")
        if number is None:
            number = self._try("nvmlSystemGetCudaDriverVersion")
        return "%d.%d" % (number // 1000, number % 1000 // 10) if number else None

    def gpus(self) -> List[Dict[str, Any]]:
        """Return a reading of every GPU the driver enumerates (see `gpu.read_gpus`).

        Raises:
            NvmlError: they cannot be counted.
        """
        return [self._gpu(index) for index in range(self._count())]

    def samples(self) -> List[Dict[str, Any]]:
        """Return the few readings that change quickly, of every GPU that answers (see `gpu.Sampler`)."""
        return [
            gpu_values.sample(reading)
            for index in range(self._count())
            for reading in [self._gpu(index, quick=True)]
            if not reading["lost"]
        ]

    def _count(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            raise NvmlError("failed", "NVML: count the GPUs: %s" % error) from error

    def _gpu(self, index: int, quick: bool = False) -> Dict[str, Any]:
        nvml = self._nvml
        gpu = gpu_values.unknown(index)

        def read(take: Callable[[], Any]) -> Any:
            try:
                return take()
            except nvml.NVMLError as error:
                if error.value in _LOST_CODES:
                    gpu["lost"] = True
                    gpu["error"] = gpu["error"] or str(error)
                return None
            except AttributeError:
                return None  # an older nvidia-ml-py without this function

        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:  # whatever the code: a GPU without a handle cannot be used
            gpu.update(lost=True, error=str(error))
            return gpu
        gpu["uuid"] = gpu_values.text(read(lambda: nvml.nvmlDeviceGetUUID(handle)))
        gpu["name"] = gpu_values.text(read(lambda: nvml.nvmlDeviceGetName(handle)))
        pci = None if quick else read(lambda: nvml.nvmlDeviceGetPciInfo(handle))
        gpu["pci"] = pci and xid.pci_key(gpu_values.text(pci.busId))
        memory = read(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        if memory is not None:
            gpu["vram_total_gb"] = gpu_values.gb(memory.total)
            gpu["vram_used_gb"] = gpu_values.gb(memory.used)
        rates = read(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        gpu["util_percent"] = None if rates is None else rates.gpu
        gpu["temperature_c"] = read(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        gpu["power_w"] = gpu_values.scaled(read(lambda: nvml.nvmlDeviceGetPowerUsage(handle)), 1000)
        gpu["clock_sm_mhz"] = read(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        gpu["throttle_reasons"] = gpu_values.throttle_reasons(
            read(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        )
        link = [
            read(lambda: nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)),
            read(lambda: nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
        ]
        if quick:
            gpu["pcie"] = gpu_values.pcie(*link, None, None)
            return gpu
        gpu["power_limit_w"] = gpu_values.scaled(read(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle)), 1000)
        gpu["clock_mem_mhz"] = read(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))
        # Volatile counters: since the driver was loaded. The lifetime ones would blame a GPU for ever.
        ecc = [
            read(lambda kind=kind: nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC))
            for kind in (nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
        ]
        gpu["ecc"] = gpu_values.ecc(*ecc)
        gpu["pcie"] = gpu_values.pcie(
            *link,
            read(lambda: nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
            read(lambda: nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
        )
        mig = read(lambda: nvml.nvmlDeviceGetMigMode(handle))
        gpu["mig"] = None if mig is None else bool(mig[0])
        for kind, function in (
            ("compute", "nvmlDeviceGetComputeRunningProcesses"),
            ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
        ):
            for process in read(lambda name=function: getattr(nvml, name)(handle)) or []:
                gpu["processes"].append(gpu_values.process(process.pid, kind, gpu_values.gb(process.usedGpuMemory)))
        return gpu
