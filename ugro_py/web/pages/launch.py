"""The dashboard's form to launch a job."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
