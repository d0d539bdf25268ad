"""The command line of train_production.py."""

from __future__ import annotations

import argparse
import os


def _at_least(kind: type, lowest: float):  # type: ignore[no-untyped-def]
    """Return an argparse type: a number of `kind` that is not below `lowest`."""

    def parse(text: str) -> float:
        number = kind(text)
        if not number >= lowest:
            raise argparse.ArgumentTypeError(f"{text} is below {lowest}")
        return number

    parse.__name__ = kind.__name__  # argparse names it when the text is no number at all
    return parse


def parse(argv: list[str] | None, description: str) -> argparse.Namespace:
    """Return the options; `learning_rate`, `seq_len` and `batch_size` are None when the model decides."""
    positive, count = _at_least(int, 1), _at_least(int, 0)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--model-name", "--model", default="tiny-llama", help="a preset, a local folder or a hub id")
    add(
        "--dataset-name",
        "--dataset",
        default="python-docs",
        help="python-docs, a .txt/.jsonl/.parquet file, a folder of them, or a hub name such as wikitext",
    )
    add("--num-epochs", "--epochs", type=positive, default=3)
    add("--max-steps", type=count, default=0, help="stop after this many steps (0: all epochs)")
    add("--job-id", default=os.environ.get("UGRO_JOB_ID") or "local")
    add("--batch-size", type=positive, help="sequences per GPU and forward pass (default: by model)")
    add("--gradient-accumulation", type=positive, default=1, help="forward passes per step")
    add("--seq-len", type=_at_least(int, 2), help="tokens per sequence (default: by model)")
    add("--learning-rate", type=_at_least(float, 0), help="peak learning rate (default: by model)")
    add("--weight-decay", type=_at_least(float, 0), default=0.1)
    add("--warmup-steps", type=count, default=10)
    add("--grad-clip", type=_at_least(float, 0), default=1.0, help="largest gradient norm (0: no limit)")
    add("--amp", choices=["auto", "off", "bf16", "fp16"], default="auto", help="auto: off without a GPU")
    add("--seed", type=count, default=42)
    add("--num-workers", type=count, default=0, help="processes that load data")
    add("--checkpoint-every", type=count, default=0, metavar="N", help="steps (each epoch is always saved)")
    add("--keep-checkpoints", type=positive, default=3, help="step checkpoints to keep (epochs all stay)")
    add(
        "--resume",
        nargs="?",
        const="auto",
        default=None,
        metavar="PATH|auto",
        help="a checkpoint, a folder of them, or the newest in UGRO_CHECKPOINT_DIR (default: UGRO_RESUME_FROM)",
    )
    add("--log-every", type=positive, default=10, metavar="N", help="steps between lines on the screen")
    return parser.parse_args(argv)
