"""Run the benchmarks on a lab of three hosts, print a table and write benchmarks/out/results.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import (
    agent_idle,
    chart,
    check,
    columns,
    dashboards,
    detection,
    experiments,
    launch,
    log_line,
    recovery,
    results,
    scheduler,
    startup,
    stopwatch,
    submit,
    sweep,
    throughput,
)
from benchmarks.bed import bed
from benchmarks.measure import Figure, Result
from tests.lab import skip_reason

BENCHMARKS: Mapping[str, ModuleType | type] = {
    **{
        module.NAME: module
        for module in (launch, check, throughput, startup, sweep, agent_idle, scheduler, submit, recovery, detection)
    },
    **{module.NAME: module for module in (chart, log_line, dashboards, experiments, columns, stopwatch)},
    **{one.NAME: one for one in (results.Results, results.Load, results.Charts)},
}
OUT = Path(__file__).resolve().parent / "out" / "results.json"


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for; 0 if every limit held, 1 if one did not or the lab cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="only this one (may be repeated)")
    parser.add_argument("-n", type=_positive, help="pairs of repetitions [default: each benchmark's own]")
    options = parser.parse_args(argv)
    reason = skip_reason()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    measured: list[Result | Figure] = []
    print(HEADER, flush=True)
    with bed() as test_bed:
        for name in options.only or BENCHMARKS:
            measure: Callable[..., Result | list[Figure] | list[Result | Figure]] = BENCHMARKS[name].measure
            found = measure(test_bed, options.n) if options.n else measure(test_bed)
            for result in found if isinstance(found, list) else [found]:
                measured.append(result)
                print(_row(result), flush=True)
    print(f"\nmedians, in brackets the spread; load average at the end: {os.getloadavg()[0]:.1f}")
    _write(measured)
    return 0 if all(result.held for result in measured) else 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


HEADER = f"{'benchmark':<26} {'UGRO':<28} {'by hand':<28} {'ratio':<24} {'limit':<9} {'n':>3}"


def _row(result: Result | Figure) -> str:
    if isinstance(result, Figure):
        limit = f"<= {result.limit:g}"
        return (
            f"{result.name:<26} {_side(result.values, result.value, result.unit):<57} {'':<24} {limit:<9} "
            f"{len(result.values):>3}{'' if result.held else '  MISSED'}"
        )
    low, high = result.spread
    limit = "none" if result.limit is None else f"{'>=' if result.more_is_better else '<='} {result.limit:.2f}"
    return (
        f"{result.name:<26} {_side(result.ours, result.value, result.unit):<28} "
        f"{_side(result.hand, result.baseline, result.unit):<28} "
        f"{result.ratio:<6.3f} [{low:.3f}, {high:.3f}]   {limit:<9} {len(result.ours):>3}"
        f"{'' if result.held else '  MISSED'}"
    )


def _side(values: Sequence[float], median: float, unit: str) -> str:
    digits = 3 if median < 100 else 0
    return f"{median:.{digits}f} {unit} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _write(results: list[Result | Figure]) -> None:
    """Replace the entries of what was measured, and keep those of an earlier run that was not repeated."""
    OUT.parent.mkdir(exist_ok=True)
    known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    known.update({result.name: result.as_json() for result in results})
    OUT.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    print(f"written to {OUT}")


if __name__ == "__main__":
    sys.exit(main())
