"""This process among its peers: rank, device, process groups, and the few collectives training needs.

Three groups, because three kinds of waiting need different patience:
the default one (all ranks arrive), `patient` (one rank prepares data or writes a checkpoint while the
others wait) and `gradients` (steps: a lost peer must end the job soon). Everything works with one process,
too: then there are no groups and each collective returns what it was given.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from errors import TrainingError

ARRIVAL_TIMEOUT_S = 300.0
COLLECTIVE_TIMEOUT_S = float(os.environ.get("UGRO_COLLECTIVE_TIMEOUT_S") or 60)
PATIENT_TIMEOUT_S = float(os.environ.get("UGRO_PATIENT_TIMEOUT_S") or 1800)


class Ranks:
    """Rank, world size and device from the environment that torchrun sets (one process without it)."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK") or 0)
        self.local_rank = int(os.environ.get("LOCAL_RANK") or 0)
        self.world = int(os.environ.get("WORLD_SIZE") or 1)
        self.is_main = self.rank == 0
        self.device = self._device()
        self.patient: Any = None
        self.gradients: Any = None
        if self.world == 1:
            return
        dist.init_process_group("gloo", timeout=timedelta(seconds=ARRIVAL_TIMEOUT_S))
        self._check_same_device_type()
        self.patient = dist.new_group(backend="gloo", timeout=timedelta(seconds=PATIENT_TIMEOUT_S))
        self.gradients = dist.new_group(
            backend="nccl" if self.device.type == "cuda" else "gloo",
            timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S),
        )

    def _device(self) -> torch.device:
        """CUDA_VISIBLE_DEVICES already left only this job's GPUs; the local rank picks among them."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        visible = torch.cuda.device_count()
        if self.local_rank >= visible:
            raise TrainingError(
                f"local rank {self.local_rank} wants its own GPU, but {visible} are visible "
                f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')!r}); "
                "start at most one rank per GPU"
            )
        device = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(device)
        return device

    def _check_same_device_type(self) -> None:
        """A gang of GPUs and CPUs would hang in its first collective: say so instead."""
        mine = f"{self.device.type} on {socket.gethostname()}"
        types: list[Any] = [None] * self.world
        dist.all_gather_object(types, mine)
        odd = [f"rank {r}: {t}" for r, t in enumerate(types) if t.split()[0] != types[0].split()[0]]
        if odd:
            raise TrainingError(
                f"ranks use different kinds of device (rank 0: {types[0]}; {'; '.join(odd)}); run `ugro check` "
                "on the nodes without a GPU, or set CUDA_VISIBLE_DEVICES to nothing everywhere"
            )

    def close(self, failed: bool) -> None:
        """Tear the groups down; peers that still wait for this rank get an error at once.

        After a failure NCCL's group is left to the end of the process: to destroy it waits for kernels that
        wait for peers, which may be gone.
        """
        self.patient = self.gradients = None
        gc.collect()  # a group ends its threads when the last reference to it is gone
        if dist.is_initialized() and not (failed and self.device.type == "cuda"):
            dist.destroy_process_group()

    # -- collectives -------------------------------------------------------------------------------

    def mean(self, values: list[torch.Tensor | float]) -> list[float]:
        """Return the mean over all ranks of each of the numbers `values`."""
        numbers = torch.stack([torch.as_tensor(v, dtype=torch.float32, device=self.device) for v in values])
        if self.world > 1:
            dist.all_reduce(numbers, group=self.gradients)
            numbers /= self.world
        return numbers.tolist()

    def from_main(self, value: Any) -> Any:
        """Return what rank 0 has in `value` (small objects); the others may wait for it for long."""
        if self.world == 1:
            return value
        box = [value if self.is_main else None]
        dist.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the `value` of every rank, in order of rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.patient)
        return values

    def main_does(self, action: Any) -> Any:
        """Run `action()` on rank 0 while the others wait; its result, or its TrainingError, is everyone's."""
        outcome: tuple[Any, str | None, int] = (None, None, 0)
        if self.is_main:
            try:
                outcome = (action(), None, 0)
            except TrainingError as error:
                outcome = (None, str(error), error.exit_code)
        result, message, exit_code = self.from_main(outcome)
        if message is not None:
            raise TrainingError(message, exit_code)
        return result

    def tensor_from_main(self, tensor: torch.Tensor) -> torch.Tensor:
        """Fill the CPU tensor `tensor` with rank 0's, in pieces of at most 64 MB, and return it."""
        if self.world > 1 and tensor.numel():
            flat = tensor.view(-1)
            for piece in flat.split(max(1, (64 << 20) // tensor.element_size())):
                dist.broadcast(piece, src=0, group=self.patient)
        return tensor

    def state_from_main(self, state: Any) -> Any:
        """Return rank 0's nested `state` of dicts, lists, plain values and CPU tensors on every rank."""
        if self.world == 1:
            return state
        tensors: list[torch.Tensor] = []
        outline = self.from_main(_take_tensors_out(state, tensors) if self.is_main else None)
        return self._fill(outline, iter(tensors))

    def _fill(self, outline: Any, own: Any) -> Any:
        if isinstance(outline, dict):
            return {key: self._fill(value, own) for key, value in outline.items()}
        if isinstance(outline, list | tuple):
            return type(outline)(self._fill(value, own) for value in outline)
        if isinstance(outline, _Slot):
            tensor = next(own).contiguous() if self.is_main else torch.empty(outline.shape, dtype=outline.dtype)
            return self.tensor_from_main(tensor)
        return outline

    @contextlib.contextmanager
    def local_gradients(self, model: torch.nn.Module, local: bool):  # type: ignore[no-untyped-def]
        """Keep gradients on this rank inside the block if `local` (all but the last accumulated pass)."""
        with model.no_sync() if local and self.world > 1 else contextlib.nullcontext():  # type: ignore[operator]
            yield


class _Slot:
    """The place of a tensor in an outline of a state."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype


def _take_tensors_out(state: Any, tensors: list[torch.Tensor]) -> Any:
    if isinstance(state, dict):
        return {key: _take_tensors_out(value, tensors) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_take_tensors_out(value, tensors) for value in state)
    if isinstance(state, torch.Tensor):
        tensors.append(state)
        return _Slot(state)
    return state
