"""The queue: who waits for GPUs, in which order, why, and who starts next."""

from __future__ import annotations
