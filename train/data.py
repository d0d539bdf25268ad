"""From a data set's name to the batches of a rank.

Rank 0 reads the text, tokenizes it and keeps the result in a cache folder; ranks that lack it get it over
the network (`share`). So a file must exist on the node of rank 0 only, and all ranks train on the same
tokens even where Python versions (and so `python-docs`) differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import sources
import torch
from errors import WrongInput
from ranks import Ranks
from torch.utils.data import DataLoader, Dataset, Sampler

END_OF_TEXT = "<|endoftext|>"
_FORMAT = "1"  # of the cache; a new number makes old folders unused
_TRAIN_TOKENIZER_ON = 64 << 20  # characters
_HELD_OUT = 0.05
_MOST_HELD_OUT = 256  # blocks


def cache_dir() -> Path:
    """Return the folder of prepared data sets, `$UGRO_CACHE` or `~/.cache/ugro`."""
    return Path(os.environ.get("UGRO_CACHE") or "~/.cache/ugro").expanduser()


@dataclass(frozen=True)
class Prepared:
    """A tokenized data set in the cache."""

    folder: Path
    tokenizer: str  # JSON text
    end: str  # token that ends a document, may be empty
    fingerprint: str  # of tokenizer and tokens
    tokens: int  # how many

    def load(self) -> torch.Tensor:
        """Return the tokens, mapped from the file: ranks of one node share the memory."""
        path = str(self.folder / "tokens.bin")
        return torch.from_file(path, shared=False, size=self.tokens, dtype=torch.int32)


def prepare(name: str, vocab_size: int, tokenizer: tuple[str, str] | None = None) -> Prepared:
    """Return the tokenized data set `name`, from the cache or made now.

    Args:
        name: `python-docs`, a file, a folder or a hub name.
        vocab_size: of the byte-level BPE tokenizer that is trained on the text if `tokenizer` is None.
        tokenizer: JSON text of a tokenizer, and its end-of-text token (may be empty).

    Raises:
        WrongInput: there is no such data set, it cannot be read or holds no text.
    """
    source = sources.find(name)
    how = tokenizer or (str(vocab_size), "")
    key = hashlib.sha256("\0".join((_FORMAT, source.key, *how)).encode()).hexdigest()[:32]
    folder = cache_dir() / "data" / key
    return _read(folder) or _write(folder, *_tokenize(source, vocab_size, tokenizer))


def _tokenize(
    source: sources.Source, vocab_size: int, tokenizer: tuple[str, str] | None
) -> tuple[str, str, np.ndarray]:
    import tokenizers

    if tokenizer is None:
        encoder, end = train_tokenizer(source.pieces(), vocab_size), END_OF_TEXT
    else:
        encoder, end = tokenizers.Tokenizer.from_str(tokenizer[0]), tokenizer[1]
    separator = [encoder.token_to_id(end)] if end and encoder.token_to_id(end) is not None else []
    arrays, pieces = [np.zeros(0, dtype=np.int32)], source.pieces()
    while batch := list(islice(pieces, 64)):  # a batch is tokenized on all cores
        encodings = encoder.encode_batch([text for text, _ in batch], add_special_tokens=False)
        for encoding, (_, is_last) in zip(encodings, batch, strict=True):
            arrays.append(np.asarray(encoding.ids + (separator if is_last else []), dtype=np.int32))
    tokens = np.concatenate(arrays)
    if tokens.size <= len(arrays):
        raise WrongInput(f"data set {source.name!r} holds no text")
    return encoder.to_str(), end, tokens


def train_tokenizer(pieces: Iterator[tuple[str, bool]], vocab_size: int):  # type: ignore[no-untyped-def]
    """Return a byte-level BPE tokenizer trained on the first 64 million characters of `pieces`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def some() -> Iterator[str]:
        left = _TRAIN_TOKENIZER_ON
        for piece, _ in pieces:
            yield piece
            left -= len(piece)
            if left <= 0:
                return

    tokenizer.train_from_iterator(some(), trainer)
    return tokenizer


def _write(folder: Path, tokenizer: str, end: str, tokens: np.ndarray) -> Prepared:
    """Put a prepared data set into the cache, whole or not at all; who comes second uses the first's."""
    digest = hashlib.sha256(tokenizer.encode())
    digest.update(tokens.data)
    about = {"tokens": int(tokens.size), "end": end, "fingerprint": digest.hexdigest()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        (temporary / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        tokens.tofile(temporary / "tokens.bin")
        (temporary / "about.json").write_text(json.dumps(about), encoding="utf-8")
        for file in temporary.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        present = _read(folder)
        if present is not None and present.fingerprint == about["fingerprint"]:
            return present
        try:
            temporary.rename(folder)
        except OSError:  # it exists: by somebody who was faster, or an unusable one
            if (present := _read(folder)) is None or present.fingerprint != about["fingerprint"]:
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    made = _read(folder)
    if made is None:
        raise WrongInput(f"the prepared data set in {folder} cannot be read back; check the disk")
    return made


def _read(folder: Path) -> Prepared | None:
    """Return what is in the cache folder, or None if it is missing or not whole."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        if (folder / "tokens.bin").stat().st_size != 4 * about["tokens"]:
            return None
        return Prepared(folder, tokenizer, about["end"], about["fingerprint"], about["tokens"])
    except (OSError, ValueError, KeyError):
        return None


def share(prepared: Prepared | None, ranks: Ranks) -> Prepared:
    """Return rank 0's `prepared` on every rank, sent to those whose cache lacks it."""
    about = replace(prepared, folder=Path(prepared.folder.name)) if prepared else None
    about = ranks.from_main(about)
    folder = cache_dir() / "data" / about.folder
    mine = prepared or _read(folder)
    has_it = mine is not None and mine.fingerprint == about.fingerprint
    if not all(ranks.gather(has_it)):
        tokens = mine.load() if mine and has_it else torch.empty(about.tokens, dtype=torch.int32)
        ranks.tensor_from_main(tokens)
        if not has_it:
            mine = _write(folder, about.tokenizer, about.end, tokens.numpy())
    assert mine is not None
    return mine


class Blocks(Dataset[torch.Tensor]):
    """Tokens cut into blocks of one length; a rest shorter than a block is left out."""

    def __init__(self, tokens: torch.Tensor, seq_len: int) -> None:
        self.blocks = tokens[: len(tokens) // seq_len * seq_len].view(-1, seq_len)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.blocks[index].long()


def split(tokens: torch.Tensor, seq_len: int) -> tuple[Blocks, Blocks]:
    """Return the blocks to train on and those held out (the last 5 %, none of a very small text)."""
    blocks = Blocks(tokens, seq_len)
    if len(blocks) == 0:
        raise WrongInput(
            f"the data set has {len(tokens)} tokens, fewer than one sequence of {seq_len}; use a smaller --seq-len"
        )
    held_out = min(int(len(blocks) * _HELD_OUT), _MOST_HELD_OUT)
    cut = (len(blocks) - held_out) * seq_len
    return Blocks(tokens[:cut], seq_len), Blocks(tokens[cut:], seq_len)


def keep_global_batch(args: argparse.Namespace, world: int) -> None:
    """On fewer ranks than the run began with (UGRO_WORLD_SIZE_WANTED) do as many blocks a step as before."""
    wanted = int(os.environ.get("UGRO_WORLD_SIZE_WANTED") or world)
    if wanted != world:
        args.batch_size, args.gradient_accumulation = same_global_batch(
            args.batch_size, args.gradient_accumulation, wanted, world
        )


def same_global_batch(batch_size: int, accumulation: int, wanted: int, world: int) -> tuple[int, int]:
    """Return batch size and accumulation with which `world` ranks use as many blocks a step as `wanted` ranks did.

    The batch size (which memory limits) never grows. Where the blocks cannot be shared out evenly, or only in many
    small passes, a step uses a few more of them.
    """
    per_rank = -(-batch_size * accumulation * wanted // world)
    size = max(size for size in range(1, batch_size + 1) if per_rank % size == 0)
    if size * 2 <= batch_size:  # a prime number, say
        size = batch_size
    return size, -(-per_rank // size)


@dataclass(frozen=True)
class Batches(Sampler[list[int]]):
    """Which blocks a rank sees: a shuffle that depends on seed and epoch only, dealt out in turn.

    `per_pass` blocks are used by all ranks together in one forward pass, `per_step` in one optimizer step.
    What a position (blocks used in this epoch) means does not depend on the number of ranks, so a run can
    be resumed with another one.
    """

    blocks: int
    batch_size: int
    accumulation: int
    rank: int
    world: int
    seed: int

    @property
    def per_pass(self) -> int:
        return self.batch_size * self.world

    @property
    def per_step(self) -> int:
        return self.per_pass * self.accumulation

    def steps_left(self, used: int) -> int:
        """Return the whole steps left in an epoch after `used` blocks; a small data set repeats for one."""
        if used == 0:
            return max(1, self.blocks // self.per_step)
        return max(0, (self.blocks - used) // self.per_step)

    def position(self, epoch: int, used: int) -> tuple[int, int]:
        """Return where to go on from `epoch` and `used`: the next epoch if no whole step is left in this one.

        That happens when a step is larger now (batch size, accumulation, ranks) than where the position is from.
        """
        return (epoch, used) if self.steps_left(used) else (epoch + 1, 0)

    def of_epoch(self, epoch: int, used: int) -> Iterator[list[int]]:
        """Yield the block numbers of each forward pass of this rank from position `used` on."""
        shuffle = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.blocks, generator=shuffle)
        for first in range(used, used + self.steps_left(used) * self.per_step, self.per_pass):
            mine = first + self.rank * self.batch_size
            yield [int(order[i % self.blocks]) for i in range(mine, mine + self.batch_size)]


def loader(blocks: Blocks, passes: Iterator[list[int]], workers: int, pin: bool) -> Iterator[torch.Tensor]:
    """Return an iterator over the batches that `passes` names."""
    return iter(
        DataLoader(
            blocks,
            batch_sampler=list(passes),
            num_workers=workers,
            pin_memory=pin,
            generator=torch.Generator(),  # its own, so that loading leaves the training's alone
        )
    )
