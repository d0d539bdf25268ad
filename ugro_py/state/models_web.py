"""The table of who is signed in to the dashboard."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

from ugro_py.state._types import UtcDateTime
from ugro_py.state.models import metadata

# In the database, not in a file beside it: whoever holds the agent's lease next, on this host or another, has them too,
# and two writers cannot tear them. Of what a browser holds there is a digest only: who reads the table cannot sign in.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the cookie's value, which is 256 random bits
    Column("user", Text, nullable=False),
    Column("uid", BigInteger),  # of the account that made the link; null for a user of a token
    Column("gid", BigInteger),
    Column("token_mark", String(64)),  # which token it was begun with: a digest that no two sessions have in common
    Column("ends", UtcDateTime, nullable=False),
    Column("seen", UtcDateTime, nullable=False),  # to within minutes
)
