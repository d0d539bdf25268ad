"""What a rank tells about its training: metrics lines, lines for people, TensorBoard events."""

from __future__ import annotations

import json
import math
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from ranks import Ranks
from stopwatch import StepTimes

_GB = 2**30


class Telemetry:
    """One metrics line per step and rank (`UGRO_METRICS_FILE`); screen and TensorBoard from rank 0 only."""

    def __init__(self, job_id: str, ranks: Ranks, log_every: int) -> None:
        self.job_id = job_id
        self.ranks = ranks
        self.log_every = log_every
        self._told = False
        self._gpu = GpuReader(ranks.device)
        self._file = _open_lines(os.environ.get("UGRO_METRICS_FILE"))
        folder = os.environ.get("UGRO_TENSORBOARD_DIR")
        self._board = TensorBoard(Path(folder)) if folder and ranks.is_main else None

    def step(self, *, step: int, total: int, epoch: int, loss: float, norm: float, rate: float,
             tokens: int, times: StepTimes, gradient_bytes: int) -> None:  # fmt: skip
        """Report one optimizer step: `tokens` of this rank in `times.step` seconds, `loss` as mean over all ranks."""
        util, used = self._gpu.read()
        line = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "job_id": self.job_id,
            "rank": self.ranks.rank,
            "step": step,
            "gpu_util": util,
            "gpu_mem_used_gb": used,
            "training_loss": _finite(loss),
            "throughput_tokens_sec": round(tokens / times.step, 1),
            "gradient_norm": _finite(norm),
            "learning_rate": rate,
            "epoch": epoch,
            "total_steps": total,
            **times.fields(),
        }
        if not self._told:  # it stays the same as long as this process trains
            self._told = True
            line["gradient_bytes"] = gradient_bytes
        if self._file is not None:
            # One write to a file opened for appending: a reader never sees half a line.
            os.write(self._file, json.dumps(line).encode() + b"\n")
        if self._board:
            for name in ("training_loss", "throughput_tokens_sec", "gradient_norm", "learning_rate",
                         "gpu_util", "gpu_mem_used_gb"):  # fmt: skip
                self._board.scalar(f"train/{name}", line[name], step)
        if step == 1 or step == total or step % self.log_every == 0:
            rank_speed = tokens / times.step
            self.say(
                f"epoch {epoch} step {step}/{total} loss {loss:.4f} grad_norm {norm:.3f} lr {rate:.2e} "
                f"tokens/s {rank_speed * self.ranks.world:.0f}"
            )

    def validation(self, epoch: int, step: int, loss: float) -> None:
        """Report the loss on held-out text after an epoch."""
        if self._board:
            self._board.scalar("validation/loss", _finite(loss), step)
        self.say(f"epoch {epoch} validation_loss {loss:.4f}")

    def say(self, text: str) -> None:
        """Print a line for people, once for all ranks."""
        if self.ranks.is_main:
            print(text, flush=True)

    def close(self) -> None:
        """Write out what is pending."""
        if self._board:
            self._board.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None


class GpuReader:
    """Utilisation (percent) and used memory (GB of 2**30 bytes) of the rank's GPU; None where unknown."""

    def __init__(self, device: torch.device) -> None:
        self._handle: Any = None
        if device.type != "cuda":
            return
        try:
            import pynvml
        except ImportError:
            return  # not installed: the readings stay unknown
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            # By UUID: NVML and CUDA count GPUs in different orders, and CUDA sees only this job's.
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        except pynvml.NVMLError:
            self._handle = None

    def read(self) -> tuple[float | None, float | None]:
        """Return (utilisation, used memory) now; takes microseconds."""
        if self._handle is None:
            return None, None
        util = used = None
        try:
            util = float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except self._nvml.NVMLError:
            pass  # MIG devices have no utilisation
        try:
            used = round(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used / _GB, 3)
        except self._nvml.NVMLError:
            pass  # the GPU was lost; the training step itself will say so
        return util, used


class TensorBoard:
    """Event files, written by a thread: importing the writer takes seconds that training need not wait."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scalars: queue.Queue[tuple[str, float, int, float] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._write, name="tensorboard", daemon=True)
        self._thread.start()

    def scalar(self, name: str, value: float | None, step: int) -> None:
        """Add a point; None is left out."""
        if value is not None:
            self._scalars.put((name, value, step, time.time()))

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what is pending and end the thread."""
        self._scalars.put(None)
        self._thread.join(timeout_s)

    def _write(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(self._folder))
        except (ImportError, OSError) as error:
            print(f"no TensorBoard events: {error}", file=sys.stderr, flush=True)
            return
        while (point := self._scalars.get()) is not None:
            name, value, step, at = point
            writer.add_scalar(name, value, step, walltime=at)
            if self._scalars.empty():
                writer.flush()
        writer.close()


def _open_lines(path: str | None) -> int | None:
    if not path:
        return None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _finite(number: float) -> float | None:
    """JSON has no NaN."""
    return number if math.isfinite(number) else None
