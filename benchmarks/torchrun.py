"""What a person types on every host to run one program on all of them: `ssh HOST torchrun ...`, three times."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bed import Bed

# Far from the ports that UGRO tries, and another one for each run: the last may still be closing.
_FIRST_PORT = 31000


def commands(bed: Bed, run: int, program: Sequence[str]) -> dict[str, list[str]]:
    """Return the torchrun command of each node for the `run`-th run of `program` (script and arguments)."""
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    return {
        node.name: [
            torchrun,
            *("--nnodes", str(len(bed.nodes)), "--nproc-per-node", "1", "--node-rank", str(rank)),
            *("--master-addr", bed.nodes[0].address, "--master-port", str(_FIRST_PORT + run)),
            *("--local-addr", node.address),
            *program,
        ]
        for rank, node in enumerate(bed.nodes)
    }
