"""`ugro plot`: curves of experiments as a picture or a page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option("-o", "target", required=True, type=click.Path(path_type=Path), metavar="FILE", help="FILE.png, FILE.svg or FILE.html.")  # fmt: skip  # noqa: E501
@click.option("-m", "--metric", "columns", multiple=True, metavar="NAME", help="What to draw (may be repeated) [default: training_loss].")  # fmt: skip  # noqa: E501
@click.option("--by", type=click.Choice(["step", "time"]), default="step", help="Over steps, or hours since the first.")
@click.option("--log", is_flag=True, help="Logarithmic axis of values.")
@click.option(
    "--smooth", type=click.FloatRange(0, 0.999), default=0.0, metavar="0..0.999", help="As TensorBoard smooths."
)
@click.option("--ranks", is_flag=True, help="A curve for each rank, not the mean of them.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def command(
    jobs: tuple[str, ...],
    target: Path,
    columns: tuple[str, ...],
    by: Literal["step", "time"],
    log: bool,
    smooth: float,
    ranks: bool,
    force: bool,
) -> None:
    """Draw curves of JOBs over each other, with the range of what was averaged.

    An .html is one file that can be zoomed into and needs nothing else; .png and .svg need matplotlib
    (`pip install 'ugro[plots]'`).
    """
    from ugro_py.reports import doors, plot

    if smooth != smooth:  # NaN is in every range
        raise click.BadParameter("it is no number", param_hint="--smooth")
    names = tuple(dict.fromkeys(jobs))
    plot.kind_of(target)
    looks = plot.Looks(by=by, log=log, smooth=smooth, each_rank=ranks)
    with doors.metrics_here(names):
        count = plot.write(names, tuple(dict.fromkeys(columns)) or ("training_loss",), target, looks, force)
    click.echo(f"{count} {'curve' if count == 1 else 'curves'} in {target}")
