"""What a job achieved: its figures, and every line of its metrics as a data frame."""

from __future__ import annotations

from ugro_py.results.job import Curve, JobResults, LossPoint, from_json, load, summary, thin

__all__ = ["Curve", "JobResults", "LossPoint", "from_json", "load", "summary", "thin"]
