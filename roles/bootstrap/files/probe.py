# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Looks at a node: what training needs and what of it is missing. Read from stdin, prints JSON.

Arguments: the interpreter that shall train, the Python to make its environment from, the node folder,
the requirements and the constraints (texts). Standard library only, Python 3.9+.
"""

import getpass
import json
import os
import re
import shutil
import subprocess
import sys

VERSIONS = """
import json, sys
try:
    from importlib.metadata import distributions
except ImportError:
    sys.exit("Python 3.8 or newer is needed")
found = {}
for dist in distributions():
    name = dist.metadata["Name"]
    if name:
        found.setdefault(name, dist.version)
print(json.dumps(found))
"""
ABILITIES = """
import json, sys
try:
    import ensurepip, venv
    able = True
except ImportError:
    able = False
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "venv": able}))
"""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text):
    """Return the packages of a requirements text with their pinned version, or None where not pinned."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?\s*(?:==\s*([^\s;#]+))?", line)
        if match:
            found[normal(match.group(1))] = match.group(3)
    return found


def ask(python, program):
    """Return the JSON that a program prints in another Python, or None if that Python does not work."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False
        )
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def lacking(installed, requirements, constraints):
    """Return what is not installed in the pinned version, as pip would write it."""
    pinned = pins(constraints)
    have = {normal(name): version.split("+")[0] for name, version in installed.items()}
    missing = []
    for name, version in sorted(pins(requirements).items()):
        wanted = version or pinned.get(name)
        if name not in have or (wanted and wanted.split("+")[0] != have[name]):
            missing.append(name + "==" + wanted if wanted else name)
    return missing


def lingers(user):
    """Tell whether the user's units outlive a logout; None where that needs no setting."""
    if os.geteuid() == 0 or not os.path.isdir("/run/systemd/system"):
        return None
    return os.path.exists("/var/lib/systemd/linger/" + user)


def main(python, base, node_dir, requirements, constraints):
    python, base, node_dir = (os.path.expanduser(path) for path in (python, base, node_dir))
    environment = os.path.dirname(os.path.dirname(python))
    installed = ask(python, VERSIONS)
    ability = ask(base, ABILITIES) or {"version": None, "venv": False}
    user = getpass.getuser()
    print(
        json.dumps(
            {
                "user": user,
                "root": os.geteuid() == 0,
                "python": python,
                "base": base,
                "base_version": ability["version"],
                "base_makes_environments": ability["venv"],
                "environment": environment,
                "environment_exists": installed is not None,
                # A Python that is not a virtual environment belongs to somebody else.
                "environment_is_ours": os.path.isfile(os.path.join(environment, "pyvenv.cfg"))
                or not os.path.exists(environment),
                "missing": lacking(installed or {}, requirements, constraints),
                "node_dir": node_dir,
                "rsync": shutil.which("rsync") is not None,
                "sudo": shutil.which("sudo") is not None,
                "lingers": lingers(user),
            }
        )
    )


main(*sys.argv[1:])
