"""Where everything is: the only module that knows file names.

Three places exist: the project (checkout or installed wheel), the user's own files on the controller
(`~/.config/ugro`, `~/ugro_data`), and the folder UGRO keeps on every node (`~/.ugro`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

# What a supervisor writes in an attempt's folder on its node, relative to it (docs/architecture.md).
EVENTS = "events.jsonl"
TORCHRUN_LOG = "torchrun.log"
# What lies in a spool, told beside it.
SPOOL_MANIFEST = "spool.json"
# The folders of ranks that are collected when an attempt has ended; all else is mirrored while it runs.
CHECKPOINTS = "checkpoints"
COLLECTED = (CHECKPOINTS, "tensorboard")

_PACKAGE = Path(__file__).resolve().parent
_IN_CHECKOUT = (_PACKAGE.parent / "galaxy.yml").is_file()


def collection_dir() -> Path:
    """Return the folder of the collection `ugro.cluster` (plugins/, roles/, playbooks/)."""
    if _IN_CHECKOUT:
        return _PACKAGE.parent
    return _PACKAGE.parent / "ansible_collections" / "ugro" / "cluster"


def collections_path() -> Path:
    """Return the folder that holds `ansible_collections/`, for ANSIBLE_COLLECTIONS_PATH."""
    return _PACKAGE.parent / ".dev" if _IN_CHECKOUT else _PACKAGE.parent


def playbook(name: str) -> Path:
    """Return the path of the playbook `name` (without `.yml`)."""
    return collection_dir() / "playbooks" / f"{name}.yml"


def module_utils_dir() -> Path:
    """Return the folder of the Python that runs on nodes."""
    return collection_dir() / "plugins" / "module_utils"


def _data(name: str) -> Path:
    return (_PACKAGE.parent if _IN_CHECKOUT else _PACKAGE / "_data") / name


def train_dir() -> Path:
    """Return the folder of the training code that UGRO ships (`train_production.py`)."""
    return _data("train")


def embedded_inventory() -> Path:
    """Return the default inventory: this machine as three logical nodes."""
    return _data("inventory") / "local" / "hosts.yml"


def web_templates() -> Path:
    """Return the folder of the dashboard's templates."""
    return _PACKAGE / "web" / "templates"


def web_static() -> Path:
    """Return the folder of what the dashboard serves as it is: style, scripts, libraries."""
    return _PACKAGE / "web" / "static"


def user_inventory() -> Path:
    """Return the inventory that `ugro nodes add` creates, used as soon as it exists."""
    return Path("~/.config/ugro/inventory/hosts.yml").expanduser()


def data_dir() -> Path:
    """Return the central store, `~/ugro_data` or `$UGRO_DATA`."""
    return Path(os.environ.get("UGRO_DATA", "~/ugro_data")).expanduser()


def database_url() -> str:
    """Return the URL of the state database: `$UGRO_DB` or SQLite in the central store."""
    return os.environ.get("UGRO_DB") or f"sqlite:///{quote(str(data_dir() / 'ugro.db'))}"


def system_socket() -> Path:
    """Return the socket of an agent that serves all users of this machine (systemd's RuntimeDirectory)."""
    return Path("/run/ugro/agent.sock")


def agent_socket() -> Path:
    """Return the socket of the agent.

    `$UGRO_AGENT`; else the one in a central store named by `$UGRO_DATA`; else the one of this machine's agent if it is
    there; else the one in the user's own central store.
    """
    named = os.environ.get("UGRO_AGENT")
    if named:
        return Path(named).expanduser()
    if not os.environ.get("UGRO_DATA") and system_socket().exists():
        return system_socket()
    return data_dir() / "agent.sock"


def spool_inbox() -> Path:
    """Return where submitted files are gathered until their job exists."""
    return data_dir() / "spool"


def is_spooled(folder: object) -> bool:
    """Say whether a folder is what some job keeps of what was submitted: it says nothing of where that came from."""
    parts = Path(folder).parts if isinstance(folder, str) else ()
    return parts[-4:-3] == ("jobs",) and parts[-2:-1] == ("spool",)


def kept_training(digest: str) -> Path:
    """Return where a version of UGRO's own training is kept for the jobs that wait with it."""
    return data_dir() / "training" / digest


def control_dir() -> Path:
    """Return the folder of SSH control sockets, shared with Ansible (see ansible.cfg)."""
    return Path("~/.ugro/cm").expanduser()


def experiment_notes(name: str) -> Path:
    """Return the Markdown notes of an experiment."""
    return data_dir() / "experiments" / f"{name}.md"


def bandwidth() -> Path:
    """Return where it is kept how fast the network between the nodes was when it was measured."""
    return data_dir() / "bandwidth.json"


@dataclass(frozen=True)
class JobPaths:
    """The central store of one job: `~/ugro_data/jobs/<job>/`."""

    job: str

    @property
    def root(self) -> Path:
        return data_dir() / "jobs" / self.job

    @property
    def config(self) -> Path:
        """The run capsule."""
        return self.root / "config.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per step and rank, the seed's fields."""
        return self.root / "metrics.jsonl"

    def series(self, source: Path) -> Path:
        """The columnar twin of `metrics.jsonl` or of the copy of a node's events: derived, may be removed."""
        name = source.name if source == self.metrics else f"{source.parent.name}.{source.name}"
        return self.root / "series" / name.replace(".jsonl", ".columns")

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def loki(self) -> Path:
        """How far the rank logs were pushed to Loki."""
        return self.root / ".loki.json"

    def rank_log(self, rank: int, attempt: int | None = None) -> Path:
        """The log of a rank: where it grows, or where `keep_logs` put that of an attempt."""
        return (self.logs if attempt is None else self.attempt(attempt)) / f"rank_{rank}.log"

    def keep_logs(self, attempt: int) -> None:
        """Put the rank logs of an attempt that is over into its folder: the next attempt writes new ones."""
        for log in self.logs.glob("rank_*.log"):
            kept = self.attempt(attempt) / log.name
            if kept.exists() and log.stat().st_size == 0:
                log.unlink()  # moved before, by a controller that was killed before the next attempt began
            else:
                log.rename(kept)

    def logged_ranks(self, attempt: int | None = None) -> list[int]:
        """Return the ranks that have a log here, in order; with `attempt` those whose log of it was kept."""
        folder = self.logs if attempt is None else self.attempt(attempt)
        names = (path.stem.removeprefix("rank_") for path in folder.glob("rank_*.log"))
        return sorted(int(name) for name in names if name.isdigit())

    @property
    def spool(self) -> Path:
        """What was submitted: the code, and data sets and models of this machine as long as the job waits."""
        return self.root / "spool"

    @property
    def cluster(self) -> Path:
        """The cluster that the job was submitted for."""
        return self.root / "cluster.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def copy_part(self, node: str) -> Path:
        """Where a checkpoint of a node is written until it is whole."""
        return self.root / f".copy.{node}.part"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def controller_log(self) -> Path:
        """What the process that follows the job wrote when it ran in the background."""
        return self.root / "controller.log"

    @property
    def attempts(self) -> Path:
        return self.root / "attempts"

    def attempt(self, number: int) -> Path:
        """The folder of one attempt: node specs, and what each node's supervisor reported."""
        return self.attempts / str(number)

    def node_spec(self, attempt: int, node: str) -> Path:
        """What one node was told to run."""
        return self.attempt(attempt) / f"{node}.spec.json"

    def node_events(self, attempt: int, node: str) -> Path:
        """A byte-for-byte copy of the node's `events.jsonl`; its size is the offset to resume from."""
        return self.attempt(attempt) / f"{node}.{EVENTS}"

    def event_copies(self) -> list[tuple[int, str, Path]]:
        """Return (attempt, node, copy of its events) of every node in every attempt, in order."""
        found = []
        for folder in self.attempts.glob("*"):
            if folder.name.isdigit():
                for path in folder.glob(f"*.{EVENTS}"):
                    found.append((int(folder.name), path.name.removesuffix(f".{EVENTS}"), path))
        return sorted(found)

    @staticmethod
    def mirrored(ranks: Iterable[int]) -> list[str]:
        """Return the files of a node with these ranks that are copied while they grow, by their names there."""
        return [EVENTS, f"logs/{TORCHRUN_LOG}", "logs/supervisor.log", *(f"logs/rank_{rank}.log" for rank in ranks)]

    @staticmethod
    def stack_log(rank: int) -> str:
        """Return where a node keeps the stacks of a rank that stood still."""
        return f"logs/rank_{rank}.stack.log"

    def mirror_of(self, attempt: int, node: str, name: str) -> Path | None:
        """Return where the copy of a node's file `name` is; None if no supervisor writes such a file."""
        if name == EVENTS:
            return self.node_events(attempt, node)
        base = Path(name).name
        rank = base.removeprefix("rank_").removesuffix(".log")
        if name == f"logs/rank_{rank}.log" and rank.isdigit():
            kept = self.attempt(attempt) / base  # since the next attempt has begun
            return kept if kept.exists() else self.rank_log(int(rank))
        return self.node_log(attempt, node, base) if name == f"logs/{base}" else None

    def node_log(self, attempt: int, node: str, name: str) -> Path:
        """A log of the node that is no rank's: `torchrun.log`, `supervisor.log`."""
        return self.attempt(attempt) / f"{node}.{name}"

    def gang(self, attempt: int) -> Path:
        """Who takes part in an attempt and how to reach them: what a new controller needs to take over."""
        return self.attempt(attempt) / "gang.json"
