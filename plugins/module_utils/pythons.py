# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a Python interpreter has installed, by package metadata: milliseconds, where importing torch costs seconds."""

from __future__ import annotations

import glob
import json
import os
import re

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

# The packages whose versions matter to a job; NVIDIA's NCCL package has the CUDA version in its name.
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "tensorboard", "pyarrow", "nvidia-ml-py")
_NCCL = "nvidia-nccl-cu"
DEFAULT = "~/.ugro/venv/bin/python"

_ASK = """
import importlib.metadata, json, sys
found = {}
for dist in importlib.metadata.distributions():
    name = (dist.metadata["Name"] or "").lower().replace("_", "-")
    if name in sys.argv[1:] or name.startswith("nvidia-nccl-cu"):
        found.setdefault(name, [dist.version, str(dist.locate_file(""))])
print(json.dumps({"python": "%d.%d.%d" % sys.version_info[:3], "found": found}))
"""


def named_or_default(path: Optional[str]) -> Optional[str]:
    """Return `path`, or where none is given the interpreter that `ugro bootstrap` makes, if it is there; else None."""
    return path or (DEFAULT if os.path.exists(os.path.expanduser(DEFAULT)) else None)


def read_python(path: str, deadline_s: float = 3.0) -> Dict[str, Any]:
    """Return ``{path, python, torch, cuda, nccl, packages, error}`` of an interpreter.

    A virtual or conda environment is read from its folder, without starting it; any other interpreter is asked.

    Args:
        path: the interpreter; a leading ``~`` is the user's home.
        deadline_s: when to give up on an interpreter that has to be asked.

    Returns:
        Versions as text, None where not installed. ``cuda`` is the CUDA that torch was built for (None: CPU only).
        ``error`` says why nothing is known, else None.
    """
    result: Dict[str, Any] = {
        "path": os.path.expanduser(path),
        "python": None,
        "torch": None,
        "cuda": None,
        "nccl": None,
        "packages": {},
        "error": None,
    }
    program = result["path"]
    if not os.access(program, os.X_OK) or os.path.isdir(program):
        result["error"] = "%s is not there" % path if not os.path.exists(program) else "%s cannot be run" % path
        return result
    answer = _from_folder(program) or _ask(program, deadline_s)
    if isinstance(answer, str):
        result["error"] = answer
        return result
    found = answer["found"]
    result["python"] = answer["python"]
    result["packages"] = {name: found[name][0] for name in sorted(found)}
    result["torch"] = found["torch"][0] if "torch" in found else None
    result["nccl"] = next((found[name][0] for name in sorted(found) if _is_nccl(name)), None)
    if "torch" in found:
        result["cuda"] = _torch_cuda(found["torch"][1])
    return result


def _from_folder(program: str) -> Optional[Dict[str, Any]]:
    """Return what a self-contained environment holds, or None when its folder does not tell everything."""
    prefix = os.path.dirname(os.path.dirname(program))
    version = _environment_version(prefix)
    sites: List[str] = glob.glob(os.path.join(glob.escape(prefix), "lib/python3*/site-packages"))
    if version is None or len(sites) != 1:
        return None
    found = {}
    for entry in os.listdir(sites[0]):
        if not entry.endswith(".dist-info"):
            continue
        name, dummy, release = entry[: -len(".dist-info")].partition("-")
        name = name.lower().replace("_", "-")
        if name in PACKAGES or _is_nccl(name):
            found[name] = [release, sites[0]]
    # Without torch here it may still come through a .pth file: ask.
    return {"python": version, "found": found} if "torch" in found else None


def _is_nccl(name: str) -> bool:
    cuda = name[len(_NCCL) :]  # not a regular expression: compiling one takes longer than all the rest here
    return name.startswith(_NCCL) and cuda.isascii() and cuda.isdigit()


def _environment_version(prefix: str) -> Optional[str]:
    """Return the Python version of the self-contained environment at `prefix`, None if it is none."""
    settings = {}
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            for line in file:
                key, dummy, value = line.partition("=")
                settings[key.strip().lower()] = value.strip()
    except OSError:
        for record in glob.glob(os.path.join(glob.escape(prefix), "conda-meta/python-3.*.json")):
            return os.path.basename(record).split("-")[1]
        return None
    if settings.get("include-system-site-packages", "false").lower() == "true":
        return None
    version = settings.get("version") or settings.get("version_info", "")
    return ".".join(version.split(".")[:3]) or None


def _ask(program: str, deadline_s: float) -> Any:
    """Return ``{"python", "found"}`` as the interpreter itself says, or the reason why not as text."""
    import subprocess

    try:
        done = subprocess.run(
            [program, "-I", "-c", _ASK, *PACKAGES],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "%s does not answer within %g s" % (program, deadline_s)
    except OSError as error:
        return "%s cannot be run: %s" % (program, error.strerror)
    try:
        answer = json.loads(done.stdout.decode())
        return {"python": answer["python"], "found": answer["found"]}
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["exit code %d" % done.returncode]
        return "%s: %s" % (program, lines[-1])


def _torch_cuda(site: str) -> Optional[str]:
    """Return the CUDA version in torch/version.py ("12.8"), which a CPU build does not have."""
    try:
        with open(os.path.join(site, "torch", "version.py"), encoding="utf-8") as file:
            match = re.search(r"^cuda(?:\s*:[^=]*)?\s*=\s*['\"]([^'\"]+)['\"]", file.read(), re.MULTILINE)
    except OSError:
        return None
    return match.group(1) if match else None
