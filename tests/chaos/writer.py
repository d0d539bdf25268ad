"""A process that writes to the state database as fast as it can: `writer.py URL NAME`.

Prints the number of each event once the store has said that it is kept.
"""

from __future__ import annotations

import sys

from ugro_py.state import Store

with Store.open(sys.argv[1]) as store:
    number = 0
    while True:
        number += 1
        store.add_event("chaos_writer", f"{sys.argv[2]} {number}", data={"writer": sys.argv[2], "number": number})
        print(number, flush=True)
