"""Serves the dashboard's static files, which browsers may keep: their addresses change with them."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles


class Static(StaticFiles):
    """Static files with a long life in browsers where their address has a version."""

    async def get_response(self, path: str, scope: Any) -> Response:
        """Return the file, and how long it may be kept."""
        answer = await super().get_response(path, scope)
        versioned = scope.get("query_string", b"").startswith(b"v=")
        answer.headers["cache-control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return answer
