"""UGRO, the Unified GPU Resource Orchestrator: GPU machines reachable by SSH as one training platform."""

__version__ = "0.1.0"
