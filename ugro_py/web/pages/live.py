"""The stream by which an open page of the dashboard follows what happens."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from ugro_py.api import sse
from ugro_py.api.standing import Standing
from ugro_py.web.live import has
from ugro_py.web.security import refuse_foreign_navigation
from ugro_py.web.session import Viewer, forgery_token

router = APIRouter(include_in_schema=False)


@router.get("/live/{page}", response_model=None)
async def follow(page: str, request: Request, who: Viewer) -> StreamingResponse:
    """Stream the parts of a page as they change."""
    refuse_foreign_navigation(request)  # what is sent has the viewer's token against forged requests in it
    if not has(page):
        raise HTTPException(404, "there is no such page to follow")
    query = {key: value for key, value in request.query_params.items() if value}
    token = forgery_token(request)
    return sse.stream(request.app.state.live.follow(page, who, query, token, Standing(request, who)))
