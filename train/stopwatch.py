"""Where the time of a training step goes: waiting for data, standing in collectives, and the rank's own work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one step.

    `wait`: the rank stood in a collective with no work of its own to do meanwhile: for ranks that came later, and
    for the bytes. `cpu`: processor time of this process, of all its threads. All else is the rank's own work.
    """

    step: float
    data: float
    wait: float
    cpu: float

    def fields(self) -> dict[str, float]:
        """Return what a line of metrics tells of them; docs/stragglers.md says what it means."""
        return {
            "step_time_s": round(self.step, 6),
            "data_time_s": round(self.data, 6),
            "wait_time_s": round(self.wait, 6),
            "cpu_time_s": round(self.cpu, 6),
        }


class Stopwatch:
    """Measures one step after the other; on a GPU by its own clock, without stopping it for that.

    DDP reduces gradients while the backward pass still computes. The gradient of the model's first weights, which
    take the input, is the last one to be computed: from then until the pass returns, the rank only waits.

    Attributes:
        gradient_bytes: what every rank reduces with the others at each step.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device, world: int) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.gradient_bytes = sum(parameter.numel() * parameter.element_size() for parameter in trained)
        self._alone = world == 1
        self._cuda = device.type == "cuda" and not self._alone
        # What is waited for: the gradients, then the mean of the loss. A beginning and an end of each.
        self._marks = [(self._event(), self._event()) for _ in range(2)]
        self._begun = self._cpu = self._data = self._wait = self._computed = 0.0
        self._hook = trained[0].register_hook(self._all_computed) if trained and not self._alone else None

    def _event(self) -> Any:
        return torch.cuda.Event(enable_timing=True) if self._cuda else None

    def close(self) -> None:
        """Let go of the model."""
        if self._hook is not None:
            self._hook.remove()

    def begin(self) -> Stopwatch:
        """Begin a step; return this stopwatch."""
        self._data = self._wait = self._computed = 0.0
        self._cpu, self._begun = time.process_time(), time.perf_counter()
        return self

    def next(self, batches: Iterator[Any]) -> Any:
        """Return the next batch; how long it had to be waited for is data time."""
        began = time.perf_counter()
        batch = next(batches)
        self._data += time.perf_counter() - began
        return batch

    def _all_computed(self, _: torch.Tensor) -> None:
        self._computed = time.perf_counter()
        if self._cuda:
            self._marks[0][0].record()

    def reduced(self) -> None:
        """The gradients of all ranks have arrived (on a GPU: that is in its queue)."""
        if not self._computed:
            return  # one rank, or weights that had no part in this step
        if self._cuda:
            self._marks[0][1].record()
        else:
            self._wait += time.perf_counter() - self._computed

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A collective that gives every rank its result before the block ends."""
        if self._cuda:
            self._marks[1][0].record()
        began = time.perf_counter()
        yield
        if self._cuda:
            self._marks[1][1].record()
        elif not self._alone:
            self._wait += time.perf_counter() - began

    def end(self) -> StepTimes:
        """Return the times of the step that ends now."""
        step = time.perf_counter() - self._begun
        if self._cuda:
            self._marks[1][1].synchronize()  # long since reached: the result is on the CPU
            marks = self._marks if self._computed else self._marks[1:]
            self._wait = sum(first.elapsed_time(last) for first, last in marks) / 1000
        return StepTimes(step, self._data, min(self._wait, step), time.process_time() - self._cpu)
