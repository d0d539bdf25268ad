"""`ugro top`: the cluster live in a terminal. `widgets` is shared with `ugro launch` and needs no Textual."""
