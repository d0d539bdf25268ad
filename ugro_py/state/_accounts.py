"""Users and groups in the store: roles, quotas, usage, and the audit trail."""

from __future__ import annotations

from ugro_py.state._base import Part


class Accounts(Part):
    """Users and groups in the store: roles, quotas, usage, and the audit trail."""
