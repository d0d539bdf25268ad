"""`ugro logs`: what the ranks of a job printed."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


def _rank(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value != "all" and not (value.isascii() and value.isdigit() and len(value) < 7):
        raise click.BadParameter(f"{value!r} is neither a rank's number nor `all`")
    return value


@click.command()
@click.argument("job", shell_complete=job_names)
@click.option("--rank", default="all", metavar="N|all", callback=_rank, help="The rank to show [default: all].")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each rank.")
@click.option("--json", "as_json", is_flag=True, help='Print each line as {"rank": N, "line": "..."}.')
def command(job: str, rank: str, follow: bool, tail: int | None, as_json: bool) -> None:
    """Show or follow the logs of JOB's ranks; with several ranks each line says whose it is."""
    import os
    import sys

    from ugro_py import logs
    from ugro_py.api.client import connect, job_path
    from ugro_py.paths import JobPaths

    form: logs.Form = "json" if as_json else "terminal" if sys.stdout.isatty() else "raw"
    client = connect(reading=True)
    if client is not None:
        try:
            for piece in client.read(job_path(job, "logs"), rank=rank, follow=follow, tail=tail, form=form):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    from ugro_py.state import Store

    with Store.open() as store:
        is_over = logs.end_of(store, job)
        over = is_over()

        def ranks() -> list[int]:
            return logs.choose_ranks(JobPaths(job), rank, [known.rank for known in store.ranks(job)], over=over)

        try:
            if follow and not over:
                logs.follow(JobPaths(job), ranks, is_over, sys.stdout.buffer, form, tail)
            else:
                logs.show(JobPaths(job), ranks(), sys.stdout.buffer, form, tail)
        except BrokenPipeError:
            # The reader (`head`, say) has enough; Python must not complain when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
