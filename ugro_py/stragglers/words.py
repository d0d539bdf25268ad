"""What a report of stragglers says, for people: the verdict in a sentence, and lines for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ugro_py.display import fitting, safe_line

if TYPE_CHECKING:
    from ugro_py.stragglers import Report, Slowest
    from ugro_py.stragglers.times import RankTimes, Times
    from ugro_py.worth.prediction import Link, Worth


# What goes first where not all columns fit; never rank, node and slowest.
_LEAVE_OUT = ("cores", "p95", "for peers", "data", "waits", "compute")


def seconds(value: float | None) -> str:
    """Return a step's time with three digits: "1.52 s", "83.1 ms"; "-" for None."""
    if value is None:
        return "-"
    return f"{_digits(value)} s" if value >= 1 else f"{_digits(1000 * value)} ms"


def _digits(value: float) -> str:
    """Return three digits, and all of a whole number that has more: "83.1", "2,314" where %g has 2.31e+03."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def percent(share: float) -> str:
    """Return a share as a whole percentage."""
    return f"{100 * share:.0f} %"


def size(count: int) -> str:
    """Return a number of bytes: "4.3 MB", "1.2 GB" (powers of ten, as networks count)."""
    return f"{_digits(count / 1e9)} GB" if count >= 1e9 else f"{_digits(count / 1e6)} MB"


def link(which: Link) -> str:
    """Return a link as a person reads it: "gpu1 to gpu2, 112 MB/s"."""
    return f"{which.source} to {which.target}, {_digits(which.mb_s)} MB/s"


def named(rank: RankTimes) -> str:
    """Return which rank it is: "rank 5 (gpu2, GPU 1, GeForce RTX 3070 Ti)"."""
    gpu = [] if rank.gpu_index is None else [f"GPU {rank.gpu_index}"]
    model = [rank.gpu_name.removeprefix("NVIDIA ")] if rank.gpu_name else []
    return f"rank {rank.rank} ({', '.join([rank.node, *gpu, *model])})"


def verdict(
    times: Times,
    shares: Mapping[str, float],
    slowest: Slowest | None,
    bottleneck: str,
    predicted: Worth | None,
    placed: int,
) -> str:
    """Return in a sentence what a step is waiting for; the gang has `placed` ranks, 0 where that is not known."""
    if not times.ranks:
        return "there are no metrics yet"
    if slowest is not None:
        return _straggler(times, slowest, timed=bool(shares))
    if len(times.ranks) == 1 and placed > 1:
        return (
            f"only rank {times.ranks[0].rank} of {placed} reports its steps, so who waits for whom cannot be told; "
            "docs/stragglers.md says what each can report"
        )
    if len(times.ranks) == 1:
        return f"one rank, that waits for nobody{_of_data(shares)}"
    if not shares:
        return (
            "the ranks keep pace, but the script does not tell how long each waits for the others; "
            "docs/stragglers.md says how it can"
        )
    if bottleneck == "network":
        slow = predicted.whole.slow_link if predicted else None
        which = f"; the slowest link is {link(slow)}" if slow else "; `ugro worth` measures which link is the slowest"
        return f"no rank stands out: {percent(shares['transfer'])} of a step goes into moving gradients{which}"
    if bottleneck == "data":
        return f"no rank stands out: {percent(shares['data'])} of a step is waiting for data; raise `--num-workers`"
    rest = f"{percent(shares['compute'])} of a step is computing, {percent(shares['transfer'])} the network"
    return f"no rank stands out: {rest}"


def _of_data(shares: Mapping[str, float]) -> str:
    return f"; {percent(shares['data'])} of a step is waiting for data" if shares else ""


def _straggler(times: Times, slowest: Slowest, timed: bool) -> str:
    slow = next(rank for rank in times.ranks if rank.rank == slowest.rank)
    alone = sum(rank.node == slowest.node for rank in times.ranks) == 1
    who = slowest.node if alone and slow.gpu_index is None else named(slow)
    waiting = ", and the others wait for it" if timed else ""
    why = "; ".join(reason.text for reason in slowest.reasons)
    return f"{who} is the slowest: {percent(slowest.behind)} behind{waiting}; {why}"


def lines(report: Report) -> list[str]:
    """Return what `ugro stragglers` prints below its table."""
    found = [f"{report.job}: {report.verdict}"]
    if report.slowest:
        found += [f"  to do: {reason.next_step}" for reason in report.slowest.reasons if reason.next_step]
    if report.shares:
        names = {"compute": "computing", "data": "data", "peers": "waiting for slower ranks", "transfer": "network"}
        parts = ", ".join(f"{names[name]} {percent(share)}" for name, share in report.shares.items())
        found.append(f"A step of {seconds(report.step_s)}, averaged over the ranks: {parts}")
    if report.worth:
        found += worth_lines(report.worth)
    return [safe_line(line) for line in found]


def worth_lines(worth: Worth) -> list[str]:
    """Return what each node is worth, one line for each."""
    whole = worth.whole
    found = [
        f"With all nodes a step takes {seconds(worth.measured_s)} (predicted {seconds(whole.step_s)}: "
        f"work {seconds(whole.work_s)} on {whole.slow_node}, network {seconds(whole.transfer_s)} "
        f"for {size(worth.gradient_bytes)}" + (f" over {link(whole.slow_link)})" if whole.slow_link else ")")
    ]
    words = {
        "keep": "keep it", "leave out": "leave it out", "no difference": "it makes no difference",
        "no telling": f"no telling: the prediction of the whole is {percent(worth.off)} off",
    }  # fmt: skip
    for each in worth.without:
        change = f"{each.change:+.0%} of the predicted {seconds(whole.step_s)}"
        found.append(f"without {each.node}: {seconds(each.step.step_s)} a step ({change}): {words[each.advice]}")
    return [safe_line(line) for line in found]


def where(rank: Mapping[str, Any]) -> str:
    """Return node and GPU of a rank (JSON values) as `--exclude` takes them: "gpu2:1"; of a CPU slot the node."""
    return str(rank["node"]) if rank.get("gpu_index") is None else f"{rank['node']}:{rank['gpu_index']}"


def print_table(ranks: Sequence[Mapping[str, Any]]) -> None:
    """Print the ranks of a report (its JSON values) as a table."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    if not ranks:
        return
    longest = max(rank["step_p95_s"] or rank["step_s"] or 0.0 for rank in ranks)
    unit, factor = ("s", 1.0) if longest >= 1 else ("ms", 1000.0)

    def time(value: float | None) -> str:
        return "-" if value is None else _digits(factor * value)

    rows = []
    for rank in ranks:
        cores, share = rank["cores"], rank["slowest_share"]
        rows.append(
            {
                "rank": str(rank["rank"]), "node": safe_line(where(rank)), f"step {unit}": time(rank["step_s"]),
                "p95": time(rank["step_p95_s"]), "compute": time(rank["compute_s"]), "data": time(rank["data_s"]),
                "waits": time(rank["wait_s"]), "for peers": time(rank["peers_s"]),
                "cores": "-" if cores is None else f"{cores:.2f}", "slowest": "-" if share is None else percent(share),
            }
        )  # fmt: skip
    # In a pipe nothing is cut: the reader is a program.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 2000)
    widths = {name: max(cell_len(name), *(cell_len(row[name]) for row in rows)) for name in rows[0]}
    shown = fitting(widths, _LEAVE_OUT, console.width)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in shown:
        table.add_column(name, justify="left" if name == "node" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    console.print(table)
    if left_out := [name for name in widths if name not in shown]:
        console.print(f"this terminal is too narrow for {', '.join(left_out)}")
