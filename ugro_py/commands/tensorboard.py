"""`ugro tensorboard`: TensorBoard over the central store."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=job_names)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port on 127.0.0.1 [default: 6006, or the next free one].",
)
def command(jobs: tuple[str, ...], port: int | None) -> None:
    """Start TensorBoard with the event files of JOBs, or of all jobs that have any, until Ctrl-C.

    It listens on this machine's loopback alone; to look from another one, tunnel the port with ssh -L.
    """
    from ugro_py.api.client import connect, job_path
    from ugro_py.tensorboard import AgentSource, StoreSource, serve

    names = list(dict.fromkeys(jobs))
    client = connect(reading=True)
    if client is not None:
        for job in names:
            client.get(job_path(job))
        serve(AgentSource(client), names, port, click.echo)
        return
    from ugro_py.reconcile import reconcile
    from ugro_py.state import Store

    with Store.open() as store:
        for job in names:
            store.job(job)
        reconcile(store)
        serve(StoreSource(store), names, port, click.echo)
