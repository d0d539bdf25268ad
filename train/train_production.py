"""Train a Llama-style causal language model on one process, one GPU, or many machines.

    CPU:        python train_production.py
    one GPU:    CUDA_VISIBLE_DEVICES=0 python train_production.py --model-name llama-160m --dataset-name my.txt
    many ranks: torchrun --nproc-per-node 3 train_production.py --num-epochs 3 --checkpoint-every 50

Rank, world size and device come from the environment (torchrun sets it); where metrics, checkpoints and
TensorBoard events go comes from UGRO_METRICS_FILE, UGRO_CHECKPOINT_DIR and UGRO_TENSORBOARD_DIR.
Exit codes: 0 done, 1 failed, 2 a wrong option, model or data set, 143 stopped by SIGTERM after a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import checkpoint
import data
import model as models
import optimizing
import options
import resume
import torch
from errors import TrainingError
from ranks import Ranks
from stopwatch import Stopwatch
from telemetry import Telemetry
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel

STOPPED = 128 + signal.SIGTERM


@dataclass
class Position:
    """How far the training is."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs done
    used: int = 0  # blocks used in the present epoch, by all ranks


class Trainer:
    """Everything a step needs. `run` is the training loop; the rest prepares, saves and evaluates."""

    def __init__(self, args: argparse.Namespace, ranks: Ranks) -> None:
        self.args, self.ranks, self.device = args, ranks, ranks.device
        preset = models.preset(args.model_name)
        args.seq_len = args.seq_len or preset.seq_len
        args.batch_size = args.batch_size or preset.batch_size
        args.learning_rate = preset.learning_rate if args.learning_rate is None else args.learning_rate
        data.keep_global_batch(args, ranks.world)
        self.folder = Path(os.environ.get("UGRO_CHECKPOINT_DIR") or "checkpoints")
        self.checkpoints = checkpoint.CheckpointFolder(self.folder, args.keep_checkpoints)
        self.telemetry = Telemetry(args.job_id, ranks, args.log_every)
        self.stop_requested = False

        saved = resume.find(args, self.folder, ranks, self.telemetry.say)
        self.position = now = Position(**saved["position"]) if saved else Position()
        self._prepare_data(preset, saved)
        now.epoch, now.used = self.batches.position(now.epoch, now.used)
        self.total_steps = self._count_steps()
        self._prepare_model(saved)
        self._restore(saved)

    # -- preparation -------------------------------------------------------------------------------

    def _prepare_data(self, preset: models.Preset, saved: dict[str, Any] | None) -> None:
        """Tokenize on rank 0 (with the checkpoint's tokenizer if there is one), share, cut into blocks."""
        args, ranks = self.args, self.ranks
        prepared: data.Prepared | None = None

        def prepare() -> None:
            nonlocal prepared
            tokenizer = (saved["tokenizer"], saved["end"]) if saved else models.tokenizer_of(args.model_name)
            prepared = data.prepare(args.dataset_name, preset.config.get("vocab_size", 32000), tokenizer)

        if not ranks.is_main:
            models.import_early(args.model_name)  # while rank 0 is busy with the data
        ranks.main_does(prepare)
        self.data = data.share(prepared, ranks)
        if saved and saved["data"] != self.data.fingerprint:
            self.telemetry.say("note: the data set is not the one of the checkpoint; its position is kept")
        self.blocks, self.held_out = data.split(self.data.load(), args.seq_len)
        self.batches = data.Batches(
            len(self.blocks), args.batch_size, args.gradient_accumulation, ranks.rank, ranks.world, args.seed
        )

    def _count_steps(self) -> int:
        """Return the steps of the whole run, those done included."""
        done, epochs = self.position, self.args.num_epochs
        left = self.batches.steps_left(done.used) if done.epoch < epochs else 0
        total = done.step + left + max(0, epochs - done.epoch - 1) * self.batches.steps_left(0)
        return min(total, self.args.max_steps) if self.args.max_steps else total

    def _prepare_model(self, saved: dict[str, Any] | None) -> None:
        """Build the model, equal on all ranks, with optimizer and gradient scaler."""
        torch.manual_seed(self.args.seed)
        ranks_on_node = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        self.model = models.build(self.args.model_name, self.args.seq_len, self.device, ranks_on_node)
        if saved and saved["model"] is not None:
            self.model.load_state_dict(saved["model"])
        self.parallel: torch.nn.Module = self.model.train()
        self.watch = Stopwatch(self.model, self.device, self.ranks.world)
        if self.ranks.world > 1:
            self.parallel = DistributedDataParallel(
                self.model, [self.device] if self.device.type == "cuda" else None,
                process_group=self.ranks.gradients, gradient_as_bucket_view=True,
            )  # fmt: skip
            # They never change, and each forward pass would wait for rank 0; the argument of this name is deprecated.
            self.parallel.broadcast_buffers = False
        self.optimizer = optimizing.adamw(self.model, self.args.learning_rate, self.args.weight_decay)
        self.amp = optimizing.amp_type(self.args.amp, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp is torch.float16)

    def _restore(self, saved: dict[str, Any] | None) -> None:
        """Bring a new and a resumed run to the same footing, then continue where `saved` was."""
        if self.ranks.world > 1:
            # DDP arranges its buckets after the first backward pass, and with them the order in which it
            # adds numbers up. One pass thrown away puts that behind us: resumed losses are equal to the bit.
            self._loss(self.blocks[0].unsqueeze(0)).backward()
            self.optimizer.zero_grad()
        torch.manual_seed(self.args.seed + 1 + self.ranks.rank)
        if saved:
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            if self.ranks.rank < len(saved["rng"]):
                resume.set_random_state(saved["rng"][self.ranks.rank], self.device)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = self.args.learning_rate  # an option given now counts
        self.scheduler = optimizing.schedule(
            self.optimizer, self.args.warmup_steps, self.total_steps, self.position.step
        )

    # -- training ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Train to the end, or until SIGTERM, and return the exit code."""
        now, args = self.position, self.args
        parameters = sum(p.numel() for p in self.model.parameters())
        self.telemetry.say(
            f"model {args.model_name} ({parameters:,} parameters), data {args.dataset_name} "
            f"({self.data.tokens:,} tokens), {self.ranks.world} rank(s) on {self.device.type}, "
            f"{self.total_steps} steps"
        )
        signal.signal(signal.SIGTERM, self._request_stop)  # until here it simply ends the process
        path = None
        while now.step < self.total_steps:
            passes = self.batches.of_epoch(now.epoch, now.used)
            loaded = data.loader(self.blocks, passes, args.num_workers, self.device.type == "cuda")
            for _ in range(self.batches.steps_left(now.used)):
                stop = self._step(loaded)
                last = now.step == self.total_steps
                if self.batches.steps_left(now.used) == 0:
                    now.epoch, now.used = now.epoch + 1, 0
                    path = self._save(f"epoch_{now.epoch}.pt", self._evaluate())
                elif stop or last or (args.checkpoint_every and now.step % args.checkpoint_every == 0):
                    path = self._save(f"step_{now.step:06d}.pt")
                if stop and not last:
                    self.telemetry.say(f"stopped by SIGTERM after step {now.step}, saved {path}")
                    return STOPPED
                if last:
                    break
        if path is None:
            self.telemetry.say(f"nothing left to train: {now.step} steps are done")
            return 0
        self.ranks.main_does(lambda: str(self.checkpoints.mark_final(path)))
        self.telemetry.say(f"done after {now.step} steps, final checkpoint {self.folder / 'final.pt'}")
        return 0

    def _request_stop(self, *_: object) -> None:
        """Remember SIGTERM until the step is done; the ranks then agree on it."""
        self.stop_requested = True

    def _step(self, batches: Iterator[torch.Tensor]) -> bool:
        """Do one optimizer step and report it; return whether any rank was asked to stop."""
        args, watch = self.args, self.watch.begin()
        rate, loss = self.scheduler.get_last_lr()[0], torch.zeros((), device=self.device)
        for number in range(args.gradient_accumulation):
            more_to_come = number + 1 < args.gradient_accumulation
            with self.ranks.local_gradients(self.parallel, more_to_come):
                part = self._loss(watch.next(batches)) / args.gradient_accumulation
                self.scaler.scale(part).backward()
            loss += part.detach()
        watch.reduced()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.grad_clip or math.inf)
        # Before the weights change: a loss that is no number must not reach a checkpoint.
        with watch.waiting():
            mean_loss, stop = self.ranks.mean([loss, float(self.stop_requested)])
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss is {mean_loss} at step {self.position.step + 1}; "
                "lower --learning-rate, or use --amp off, and resume from the last checkpoint"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.position.step += 1
        self.position.used += self.batches.per_step
        self.telemetry.step(
            step=self.position.step, total=self.total_steps, epoch=self.position.epoch + 1,
            loss=mean_loss, norm=float(norm), rate=rate, times=watch.end(), gradient_bytes=watch.gradient_bytes,
            tokens=args.batch_size * args.gradient_accumulation * args.seq_len,
        )  # fmt: skip
        return stop > 0

    def _loss(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of predicting each next token of `batch`."""
        batch = batch.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            return self.parallel(input_ids=batch, labels=batch).loss

    @torch.no_grad()
    def _evaluate(self) -> float | None:
        """Return the loss on the held-out blocks, shared out among the ranks; None if there are none."""
        if len(self.held_out) == 0:
            return None
        self.model.eval()
        total, blocks, size = 0.0, 0, self.args.batch_size
        mine = range(self.ranks.rank * size, len(self.held_out), self.ranks.world * size)
        for first in mine:
            batch = self.held_out.blocks[first : first + size].long().to(self.device)
            with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
                total += float(self.model(input_ids=batch, labels=batch).loss) * len(batch)
            blocks += len(batch)
        self.model.train()
        mean_total, mean_blocks = self.ranks.mean([total, float(blocks)])
        self.telemetry.validation(self.position.epoch, self.position.step, mean_total / mean_blocks)
        return mean_total / mean_blocks

    def _save(self, name: str, validation_loss: float | None = None) -> Path:
        """Write a complete checkpoint on rank 0 while the others wait, and return its path."""
        rng = self.ranks.gather(resume.random_state(self.device))

        def save() -> str:
            state = {
                "position": asdict(self.position),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": {"last_epoch": self.scheduler.last_epoch, "total_steps": self.total_steps},
                "scaler": self.scaler.state_dict(),
                "rng": rng,
                "args": vars(self.args),
                "config": json.loads(self.model.config.to_json_string()),
                "tokenizer": self.data.tokenizer,
                "end": self.data.end,
                "data": self.data.fingerprint,
            }
            about = {
                "job_id": self.args.job_id,
                "model": self.args.model_name,
                "world_size": self.ranks.world,
                "total_steps": self.total_steps,
                "validation_loss": validation_loss,
                **asdict(self.position),
            }
            return str(self.checkpoints.save(name, state, about))

        return Path(self.ranks.main_does(save))


@record
def main(argv: list[str] | None = None) -> int:
    """Train as the options say and return the exit code."""
    args = options.parse(argv, __doc__ or "")
    ranks: Ranks | None = None
    trainer: Trainer | None = None
    try:
        models.preset(args.model_name)  # refuse a wrong name before anything else
        ranks = Ranks()
        trainer = Trainer(args, ranks)
        return trainer.run()
    except TrainingError as error:
        print(f"train_production.py: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    finally:
        if trainer:
            trainer.telemetry.close()
        trainer = None  # and with it DDP, which holds on to its process group
        if ranks:
            ranks.close(failed=sys.exc_info()[0] is not None)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written and closed. The interpreter's own shutdown can still abort a finished run when a thread
    # of gloo lets go of its last tensor then.
    os._exit(code)
