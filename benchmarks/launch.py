"""Command to first all-reduce: `ugro launch` against three hand-started `ssh HOST torchrun`.

UGRO's time holds everything it does: reading the inventory, verifying the nodes, allocating GPUs in the database,
copying the code (it is new to the nodes every time), starting the supervisors. The work by hand starts torchrun at
once, on a script that lies on the hosts already. Both find their SSH connections open, in the same control sockets.
The clock stops when rank 0 has the result of the first all-reduce; hosts of the lab share the machine's clock.
"""

from __future__ import annotations

import time

from benchmarks import torchrun
from benchmarks.bed import SCRIPTS, Bed
from benchmarks.measure import Result, paired

NAME = "launch_to_first_allreduce"
LIMIT = 1.3
_MARK = "first_allreduce "
_ENV = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "host0"}


def measure(bed: Bed, n: int = 7) -> Result:
    """Measure `n` pairs."""
    script = (SCRIPTS / "allreduce.py").read_text()

    def ours(number: int) -> float:
        folder = bed.home / "scripts" / str(number)
        folder.mkdir(parents=True)
        (folder / "allreduce.py").write_text(f"{script}\n# run {number}\n")
        job = f"launch{number}"
        begun = time.time()
        bed.ugro(
            "launch", "--script", str(folder / "allreduce.py"), "--nodes", str(len(bed.nodes)), "--name", job,
            "--env", "OMP_NUM_THREADS=1",
        )  # fmt: skip
        return _first_allreduce((bed.jobs / job / "logs" / "rank_0.log").read_text()) - begun

    def hand(number: int) -> float:
        begun = time.time()
        outputs = bed.by_hand(torchrun.commands(bed, number, [str(SCRIPTS / "allreduce.py")]), _ENV)
        return _first_allreduce(outputs[bed.nodes[0].name]) - begun

    return Result(NAME, "s", *paired(n, ours, hand), limit=LIMIT)


def _first_allreduce(output: str) -> float:
    """Return the Unix time that rank 0 printed."""
    return float(next(line for line in output.splitlines() if line.startswith(_MARK)).removeprefix(_MARK))
