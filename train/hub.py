"""Whether the Hugging Face hub can be reached, decided in seconds instead of minutes of retries."""

from __future__ import annotations

import os
import urllib.error
import urllib.request

CONNECT_TIMEOUT_S = 5


def prepare_client() -> str:
    """Set short time-outs for `huggingface_hub` (before its import); go offline if the hub does not answer.

    Returns:
        An empty string if the hub answers, else why not. What is in the cache can be used either way.
    """
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(CONNECT_TIMEOUT_S))
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "15")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in {"1", "on", "yes", "true"}:
        return "HF_HUB_OFFLINE is set"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(endpoint, timeout=CONNECT_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return ""  # an answer is an answer
    except (OSError, ValueError) as error:
        os.environ["HF_HUB_OFFLINE"] = "1"
        return f"{endpoint}: {getattr(error, 'reason', error)}"
    return ""


def what_failed(kind: str, name: str, why_offline: str, error: Exception) -> str:
    """Return the line for a person whose hub `kind` ('model' or 'data set') could not be had."""
    if why_offline:
        return (
            f"{kind} {name!r} is not in the Hugging Face cache of this node and the hub cannot be reached "
            f"({why_offline}); copy it into HF_HOME from a machine that has it, or give a local path"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (
        f"{kind} {name!r} could not be had from the Hugging Face hub: {lines[0]}; check the name, set "
        "HF_TOKEN if it is private or gated, or give a local path"
    )
