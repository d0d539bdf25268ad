# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The program that answers the controller on a node: one JSON object a line, requests in, answers and pushes out.

It lives as long as its SSH channel and keeps nothing: every job survives it. Requests are
``{"id": 1, "method": "report", "params": {...}}``; answers ``{"id": 1, "result": ...}`` or
``{"id": 1, "error": "..."}``; pushes ``{"push": "bytes"|"state"|"heartbeat", ...}``. Each request runs in a thread of
its own, so that one that hangs (a driver that does not answer) holds up no other.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time

from . import processes
from .attempt import Attempt
from .follow import Follower

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .probe import Probe

HEARTBEAT_S = 1.0


class Session:
    """Answers requests until standard input ends."""

    def __init__(self, node_dir: str, node: str) -> None:
        self.node_dir = node_dir
        self.node = node
        self._followers: Dict[str, Follower] = {}
        self._listeners: Dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._prober: Optional[Probe] = None

    # -- plumbing ---------------------------------------------------------------------------------------------

    def send(self, message: Dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except (BrokenPipeError, ValueError):
                os._exit(0)  # the controller is gone; nothing here needs an end of its own

    def _answer(self, request: Dict[str, Any]) -> None:
        method = getattr(self, "do_" + str(request.get("method")), None)
        try:
            if method is None:
                raise ValueError("no method %r" % request.get("method"))
            self.send({"id": request["id"], "result": method(**request.get("params", {}))})
        except Exception as error:  # noqa: BLE001  the controller must get an answer, whatever went wrong
            self.send({"id": request["id"], "error": "%s: %s" % (type(error).__name__, error)})

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            self.send({"push": "heartbeat", "t": time.time()})

    def serve(self) -> None:
        threading.Thread(target=self._beat, daemon=True).start()
        for line in sys.stdin.buffer:
            request = json.loads(line)
            threading.Thread(target=self._answer, args=(request,), daemon=True).start()

    def _attempt(self, job: str, attempt: int) -> Attempt:
        return Attempt(self.node_dir, self.node, job, attempt)

    # -- methods ----------------------------------------------------------------------------------------------

    def do_hello(self) -> Dict[str, Any]:
        """Return the time here, to measure the clock's offset, and what names this boot."""
        return {"t": time.time(), "boot_id": processes.boot_id(), "pid": os.getpid()}

    def do_report(
        self,
        address: Optional[str] = None,
        train_python: Optional[str] = None,
        paths: Optional[List[str]] = None,
    ) -> Dict[str, Any]:
        """Return the readings of this machine, its GPUs, and the attempts that run here; see probe.py."""
        return self._probe().read(address, train_python, paths)

    def do_probe(self, **options: Any) -> Dict[str, Any]:
        """Return the same for whoever asks again and again; a session that is kept reads what is new."""
        from . import probe

        return self._probe().read(python_every_s=probe.PYTHON_EVERY_S, **options)

    def _probe(self) -> Probe:
        from . import probe

        with self._lock:
            if self._prober is None:
                self._prober = probe.Probe(self.node_dir, self.node)
            return self._prober

    def do_deep(self, train_python: str, peers: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Compute on every device, or with `peers` take part in one all-reduce; see deep_check.py."""
        from . import deep_check

        return deep_check.run(os.path.expanduser(train_python), peers)

    def do_listen(self, address: str, port: int = 0) -> Dict[str, Any]:
        """Open a port on `address` for a moment and return it: a free one, unless `port` asks for a certain one."""
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        self._listeners[listener.getsockname()[1]] = listener
        return {"port": listener.getsockname()[1]}

    def do_unlisten(self, port: int) -> Dict[str, Any]:
        listener = self._listeners.pop(port, None)
        if listener:
            listener.close()
        return {}

    def do_connect(self, address: str, port: int, timeout_s: float = 3.0) -> Dict[str, Any]:
        """Try a connection to another node and return how long it took, in ms."""
        start = time.monotonic()
        socket.create_connection((address, port), timeout=timeout_s).close()
        return {"latency_ms": round(1000 * (time.monotonic() - start), 2)}

    def do_bandwidth_take(self, address: str, token: str, seconds: float) -> Dict[str, Any]:
        """Open a port on `address` that takes one measurement from the one who knows the token; see bandwidth.py."""
        from . import bandwidth

        return {"port": bandwidth.Receiver(address, token, seconds).port}

    def do_bandwidth_send(self, address: str, port: int, token: str, seconds: float) -> Dict[str, Any]:
        """Measure how fast this node sends to one that takes it."""
        from . import bandwidth

        return bandwidth.send(address, port, token, seconds)

    def _code_dir(self, digest: str) -> str:
        return os.path.join(os.path.expanduser(self.node_dir), self.node, "code", digest)

    def do_has_code(self, digest: str) -> Dict[str, Any]:
        """Say whether the code with this digest is here whole; else make room and name where it must go."""
        final, partial = self._code_dir(digest), self._code_dir(digest) + ".part"
        if os.path.isdir(final):
            os.utime(final)
            return {"here": True, "path": final}
        os.makedirs(partial, mode=0o700, exist_ok=True)
        return {"here": False, "path": partial}

    def do_take_code(self, digest: str) -> Dict[str, Any]:
        """Declare the code with this digest whole."""
        final, partial = self._code_dir(digest), self._code_dir(digest) + ".part"
        if not os.path.isdir(final):
            try:
                os.rename(partial, final)
            except OSError:
                if not os.path.isdir(final):
                    raise  # else another launch of the same code was quicker by a moment
        self._forget_old_code(keep=digest)
        return {"path": final}

    def _forget_old_code(self, keep: str, count: int = 10) -> None:
        """Remove all but the newest `count` copies of code."""
        import shutil

        folder = os.path.dirname(self._code_dir(keep))
        paths = [os.path.join(folder, name) for name in os.listdir(folder) if name != keep]
        try:
            for path in sorted(paths, key=os.path.getmtime, reverse=True)[count:]:
                shutil.rmtree(path)
        except FileNotFoundError:
            pass  # another launch removes the same ones at this moment

    def do_start(
        self, spec: Dict[str, Any], digest: Optional[str], secrets: Optional[Dict[str, str]] = None
    ) -> Dict[str, Any]:
        attempt = self._attempt(spec["job"], spec["attempt"])
        code = self._code_dir(digest) if digest else None
        if not secrets:
            return attempt.start(spec, code)
        from . import secret_files

        with secret_files.placed(spec, secrets) as known:
            return attempt.start(known, code)

    def do_go(self, spec: Dict[str, Any], secrets: Optional[Dict[str, str]] = None) -> Dict[str, Any]:
        """Let an attempt that stands by run; see standby.py."""
        attempt = self._attempt(spec["job"], spec["attempt"])
        if not secrets:
            return attempt.go(spec)
        from . import secret_files

        with secret_files.placed(spec, secrets) as known:
            return attempt.go(known)

    def do_status(self, job: str, attempt: int, token: Optional[str] = None) -> Dict[str, Any]:
        """With a `token` that is not the attempt's, that is one of another UGRO: the one asked for is absent."""
        here = self._attempt(job, attempt)
        status = here.status()
        own = here.read("spec.json").get("token")
        return dict(status, state="absent") if token is not None and own is not None and token != own else status

    def do_stop(
        self, job: str, attempt: int, reason: str, grace_s: float, token: Optional[str] = None
    ) -> Dict[str, Any]:
        return self._attempt(job, attempt).stop(reason, grace_s, token=token)

    def do_follow(self, job: str, attempt: int, offsets: Dict[str, int], limit: Optional[int] = None) -> Dict[str, Any]:
        """Push what is appended to the attempt's files from `offsets` on, of each log up to `limit` bytes."""
        key = "%s/%d" % (job, attempt)
        self.do_unfollow(job, attempt)
        follower = Follower(self._attempt(job, attempt), offsets, self.send, limit)
        self._followers[key] = follower
        follower.start()
        return {}

    def do_unfollow(self, job: str, attempt: int) -> Dict[str, Any]:
        follower = self._followers.pop("%s/%d" % (job, attempt), None)
        if follower:
            follower.stop()
        return {}

    def do_sizes(self, job: str, attempt: int) -> Dict[str, int]:
        """Return the sizes of the followed files, so that the controller knows when it has everything."""
        here = self._attempt(job, attempt)
        logs = os.listdir(here.path("logs")) if os.path.isdir(here.path("logs")) else []
        names = ["events.jsonl"] + ["logs/" + name for name in logs if name.endswith(".log")]
        return {name: os.path.getsize(here.path(name)) for name in names if os.path.exists(here.path(name))}

    def do_outputs(self, job: str, attempt: int) -> Dict[str, Any]:
        """Return where the attempt's results are and what is in them, in bytes."""
        here = self._attempt(job, attempt)
        found = {}
        for folder in ("checkpoints", "tensorboard"):
            sizes = [
                os.lstat(os.path.join(path, name)).st_size  # a link may lead nowhere
                for path, _folders, names in os.walk(here.path(folder))
                for name in names
            ]
            found[folder] = {"path": here.path(folder), "files": len(sizes), "bytes": sum(sizes)}
        return found

    def do_remove(self, job: str, attempt: int, token: str) -> Dict[str, Any]:
        """Remove an attempt's folder, if it is the one with this token; its results are in the central store."""
        self._attempt(job, attempt).remove(token)
        return {}

    def do_drill(self, job: str, attempt: int, token: str, **what: Any) -> Dict[str, Any]:
        """Break an attempt here on purpose; see drill.py."""
        from . import drill

        return drill.run(self._attempt(job, attempt), token, **what)


def main(node_dir: str, node: str) -> None:
    """Serve the controller on standard input and output."""
    Session(node_dir, node).serve()
