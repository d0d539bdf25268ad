"""`ugro state`: nodes, what they have and who uses them, and the jobs."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON in the form of cluster_state.json.")
@click.pass_obj
def command(inventory: str | None, as_json: bool) -> None:
    """Print the state of the cluster: every node, who uses it, and every job."""
    from ugro_py.api.client import connect

    client = connect(reading=True)
    if client is not None:
        state = client.get("/v1/state")
    else:
        from ugro_py.inventory import load_cluster
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store
        from ugro_py.state.views import cluster_state

        cluster = load_cluster(inventory)
        with Store.open() as store:
            reconcile(store)
            state = cluster_state(store, cluster)
    if as_json:
        import json

        click.echo(json.dumps(state, indent=2))
        return

    from ugro_py.state.tables import print_state

    print_state(state)
