"""UGRO's code for nodes, as it travels: one archive per version, kept in `<node_dir>/runtime/<digest>/`."""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path

from ugro_py import paths

# Runs on the node before anything of UGRO is there: `python -c BOOT NODE_DIR NODE DIGEST`.
BOOT = """
import gc, os, sys
gc.disable()
if "" in sys.path:
    sys.path.remove("")  # modules are never those of the folder it happens to start in
base, node, digest = os.path.expanduser(sys.argv[1]), sys.argv[2], sys.argv[3]
root = os.path.join(base, "runtime", digest)
if not os.path.isdir(root):
    import base64, io, shutil, tempfile, zipfile
    print("UGRO-SEND", flush=True)
    data = base64.b64decode(sys.stdin.buffer.readline())
    # Logs, specs and results lie below: nobody else's business. makedirs gives its mode to the last folder only.
    os.makedirs(base, mode=0o700, exist_ok=True)
    os.makedirs(os.path.dirname(root), exist_ok=True)
    part = tempfile.mkdtemp(dir=os.path.dirname(root))
    zipfile.ZipFile(io.BytesIO(data)).extractall(part)
    try:
        os.rename(part, root)
    except OSError:
        shutil.rmtree(part)
sys.path.insert(0, root)
from ansible_collections.ugro.cluster.plugins.module_utils.session import main
print("UGRO-READY", flush=True)
# What is imported stays to the end: it is not looked through for garbage, neither here, in a fork nor at exit.
gc.freeze()
gc.enable()
main(sys.argv[1], node)
"""


def _files() -> list[Path]:
    return sorted(paths.module_utils_dir().glob("*.py"))


@functools.cache
def digest() -> str:
    """Return what names this version of the node code."""
    found = hashlib.sha256()
    for file in _files():
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


@functools.cache
def archive() -> bytes:
    """Return the zip archive that holds the node code, for a node that does not have it yet."""
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in _files():
            zipped.write(file, f"ansible_collections/ugro/cluster/plugins/module_utils/{file.name}")
    return content.getvalue()


def runtime_path() -> str:
    """Return where the node code lies on a node, relative to its `node_dir`."""
    return f"runtime/{digest()}/ansible_collections/ugro/cluster/plugins/module_utils"
