"""`ugro agent`: the process that keeps the cluster running."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("agent", invoke_without_command=True)
@click.option("--standby", is_flag=True, help="Where another agent acts, wait and take over when it ends.")
@click.option(
    "--listen", metavar="ADDRESS:PORT", envvar="UGRO_LISTEN",
    help="Serve the API on TCP too; needs --token-file; default: $UGRO_LISTEN.",
)  # fmt: skip
@click.option(
    "--token-file", type=click.Path(path_type=Path), envvar="UGRO_TOKEN_FILE",
    help="File of the API's tokens and their users; default: $UGRO_TOKEN_FILE.",
)  # fmt: skip
@click.option("--tls-cert", type=click.Path(path_type=Path), help="TLS certificate of --listen (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key (PEM).")
@click.option("--host-name", "host_names", metavar="NAME", multiple=True, help="Another name --listen is asked under.")
@click.option("--plain-http", is_flag=True, help="Allow --listen beyond this machine without TLS.")
@click.option(
    "--dashboard", type=click.IntRange(0, 65535), default=8080, envvar="UGRO_DASHBOARD", show_default=True,
    metavar="PORT",
    help="Serve the dashboard at http://localhost:PORT, to this machine alone; 0 for none; or $UGRO_DASHBOARD.",
)  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    standby: bool,
    listen: str | None,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    host_names: tuple[str, ...],
    plain_http: bool,
    dashboard: int,
) -> None:
    """Be the agent, in the foreground: follow jobs, start those in the queue, watch the nodes, serve the API.

    Ends within seconds on SIGTERM or Ctrl-C; jobs go on. Exits with 9 if another agent acts (see --standby) or took
    over. Usually systemd runs it: docs/agent.md.
    """
    if ctx.invoked_subcommand:
        return
    from ugro_py.agent.main import main
    from ugro_py.errors import UsageError

    tls = {"certificate": tls_cert, "key": tls_key, "plain": plain_http, "hosts": host_names}
    if listen is None and any((token_file, *tls.values())):
        raise UsageError("ugro agent", "these options are for --listen", "say where, for example 127.0.0.1:7070")
    main(ctx.obj, standby=standby, listen=listen, token_file=token_file, tls=tls, dashboard=dashboard)


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show who is the agent, since when, which jobs it follows and how long its rounds take.

    Exits with 0 if there is an agent, with 8 if there is none.
    """
    import json

    from ugro_py.agent.status import agent_status, lines, raise_if_none

    found = agent_status()
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))
    raise_if_none(found)
