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
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt [default: the newest].")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended; an earlier attempt has.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each rank.")
@click.option("--json", "as_json", is_flag=True, help='Print each line as {"rank": N, "line": "..."}.')
def command(job: str, rank: str, attempt: int | None, follow: bool, tail: int | None, as_json: bool) -> None:
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
            path, asked = job_path(job, "logs"), {"rank": rank, "follow": follow, "tail": tail, "attempt": attempt}
            for piece in client.read(path, form=form, **asked):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    from ugro_py.state import Store

    with Store.open() as store:
        is_over = logs.end_of(store, job)
        over = is_over()
        paths, kept = JobPaths(job), logs.kept_attempt(store, job, attempt)

        def ranks() -> list[int]:
            known = [known.rank for known in store.ranks(job, kept)]
            return logs.choose_ranks(paths, rank, known, attempt=kept, over=over)

        try:
            if follow and not over and kept is None:
                logs.follow(paths, ranks, is_over, sys.stdout.buffer, form, tail)
            else:
                for piece in logs.pieces(paths, ranks(), form, tail, kept):
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            # The reader (`head`, say) has enough; Python must not complain when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
