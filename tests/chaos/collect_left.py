"""Collect what jobs that have ended still have on their nodes; prints a line for each that it could not."""

from __future__ import annotations

from ugro_py.errors import UgroError
from ugro_py.late import collect_job
from ugro_py.state import Store

with Store.open() as store:
    for job in store.jobs():
        try:
            collect_job(store, job.name, lambda text: None, wait=False)
        except UgroError as error:
            print(f"{job.name}: {error}", flush=True)
