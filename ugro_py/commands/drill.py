"""`ugro drill`: break a job on purpose and measure the recovery."""

from __future__ import annotations

import click

from ugro_py.complete import job_names, node_names


@click.command("drill")
@click.argument("action", type=click.Choice(["kill-rank", "kill-node", "pause-node"]))
@click.argument("job", shell_complete=job_names)
@click.option("--rank", type=click.IntRange(min=0), metavar="N", help="The rank to kill [default: the last one].")
@click.option("--node", metavar="NODE", shell_complete=node_names, help="The node [default: that of the last rank].")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=10.0, metavar="S", help="Length of the pause [default: 10]."
)
@click.option("--power", is_flag=True, help="With kill-node: reboot the machine at once, as a power cut would.")
@click.option(
    "--timeout", type=click.FloatRange(1, 3600), default=300.0, metavar="S", help="Longest wait [default: 300]."
)
@click.option("-y", "--yes", is_flag=True, help="Also a job of somebody else, one without a retry left, or a reboot.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    action: str, job: str, rank: int | None, node: str | None, seconds: float, power: bool, timeout: float, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Break running JOB on purpose, and say when that was noticed and when it trained again.

    kill-rank sends SIGKILL to one rank. kill-node kills the supervisor and all processes of the job on one node at once
    and drops the connection to it; other jobs there go on. pause-node stops the ranks on one node for some seconds.
    """
    import json

    from ugro_py.drill_doors import do, lines

    values = {"action": action, "rank": rank, "node": node, "seconds": seconds, "power": power, "yes": yes}
    result = do(job, {**values, "timeout_s": timeout}, lambda text: click.echo(text, err=True))
    click.echo(json.dumps(result, indent=2) if as_json else "\n".join(lines(result)))
