"""What a person asks for when launching a job, checked before anything is touched.

The same checks serve `ugro launch` and `playbooks/launch.yml`. Values are never templated, never become an Ansible
variable and never part of a shell line; they travel as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ugro_py import checkpoints
from ugro_py.cluster import Cluster, TrainingDefaults
from ugro_py.errors import UsageError
from ugro_py.names import NAME_PATTERN, check_name, new_job_name
from ugro_py.paths import JobPaths
from ugro_py.request import options as request_options
from ugro_py.request.sources import EMBEDDED_DATASET, check_source, presets
from ugro_py.scheduler import Request, parse_selection

NOT_AT_ONCE = "it could not start at once"
"""How the reason of a job begins that was not to wait (`no_wait`) and would have had to."""
TRAIN_SCRIPT = "train_production.py"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OF_TRAINING = ("model", "dataset", "epochs", "batch_size", "gradient_accumulation")
"""What a request says to UGRO's own training; a script of one's own gets nothing of it."""
_WORD = re.compile(r"(model|dataset|epochs|nodes|name)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class JobRequest:
    """A job to launch. `args` go to the script as they are.

    `model` and `dataset` are for the training UGRO ships; with `script` they are unused. `workdir` is the folder that
    is copied to every node, `script` the path inside it. `resume` is the checkpoint that the first attempt goes on
    from. `stall_timeout_s` 0 means never. `priority` (0 to 100), `hold`, `after` (jobs that must end first) are for the
    queue, as is `no_wait` (end where it cannot start at once); `min_nodes` is with how few nodes a retry may go on;
    `secret_env` names variables never kept; `tags` and `note` are what the job begins with: they are changed there.
    """

    name: str
    model: str = TrainingDefaults.model
    dataset: str = TrainingDefaults.dataset
    epochs: int = TrainingDefaults.epochs
    batch_size: int | None = None
    gradient_accumulation: int | None = None
    nodes: int | None = None
    gpus: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    script: str | None = None
    workdir: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    resume: str | None = None
    retry: int = 0
    stall_timeout_s: float = 0.0
    priority: int = 50
    hold: bool = False
    after: tuple[str, ...] = ()
    time_limit_s: float | None = None
    min_nodes: int | None = None
    min_vram_gb: float | None = None
    max_vram_gb: float | None = None
    secret_env: tuple[str, ...] = ()
    no_wait: bool = False
    tags: tuple[str, ...] = ()
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the request as JSON values, to be kept with the job."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__} | {"env": dict(self.env)}

    def set_values(self) -> dict[str, Any]:
        """Return `as_dict` without what is not set: an agent that is older than a key refuses a request that has it."""
        unset = JobRequest(self.name).as_dict()
        return {key: value for key, value in self.as_dict().items() if value or value != unset[key]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JobRequest:
        """Return the request kept by `as_dict`.

        Raises:
            UsageError: the values are those of no request.
        """
        try:
            known = {key: values[key] for key in cls.__dataclass_fields__ if key in values}
            for key in ("include", "exclude", "args", "after", "secret_env", "tags"):
                known[key] = tuple(known.get(key) or ())
            return cls(**known)
        except TypeError as error:
            raise UsageError("what the job asked for, in the database", str(error), "launch it anew") from error

    @property
    def selection(self) -> Request:
        """What the allocator needs to know."""
        return Request(
            nodes=self.nodes,
            gpus=self.gpus,
            min_vram_gb=self.min_vram_gb,
            max_vram_gb=self.max_vram_gb,
            include=parse_selection(" ".join(self.include)),
            exclude=parse_selection(" ".join(self.exclude)),
        )


def used(values: Mapping[str, Any], script: object) -> dict[str, Any]:
    """Return what of recorded values a job used: one with a script of its own takes nothing of UGRO's training.

    Args:
        values: of a request or a run capsule, by key.
        script: the script that the request named, if any.
    """
    return {key: value for key, value in values.items() if not script or key not in OF_TRAINING}


def request_of(cluster: Cluster, options: Mapping[str, Any]) -> JobRequest:
    """Return the request that the options of `ugro launch` make, defaults from the inventory.

    Raises:
        UsageError: options that do not go together.
    """
    defaults = cluster.training
    script = options["script"]
    if script is None:
        options = _with_words(options)
    for option in OF_TRAINING:
        if script is not None and options[option] is not None:
            raise UsageError(
                f"--{option.replace('_', '-')}", "is for UGRO's own training, not for --script", "pass it after `--`"
            )
    env = {}
    for pair in options["env"]:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--env {pair}", "has no value", "use NAME=VALUE")
        env[key] = value
    gpus = request_options.gpus(options["gpus"])
    return JobRequest(
        name=options["name"] if options["name"] is not None else new_job_name(),
        model=options["model"] if options["model"] is not None else defaults.model,
        dataset=options["dataset"] if options["dataset"] is not None else defaults.dataset,
        epochs=options["epochs"] if options["epochs"] is not None else defaults.epochs,
        batch_size=options["batch_size"],
        gradient_accumulation=options["gradient_accumulation"],
        nodes=options["nodes"],
        gpus=gpus.number,
        min_vram_gb=gpus.min_vram_gb,
        max_vram_gb=gpus.max_vram_gb,
        include=tuple(options["include"]),
        exclude=tuple(options["exclude"]),
        script=script,
        workdir=options["workdir"],
        args=tuple(options["args"]),
        env=env,
        resume=options.get("resume"),
        retry=options["retry"] if options["retry"] is not None else cluster.settings.retry,
        stall_timeout_s=options["stall_timeout"],
        priority=request_options.priority(options.get("priority")),
        hold=bool(options.get("hold")),
        after=tuple(dict.fromkeys(options.get("after") or ())),
        time_limit_s=request_options.time_limit(options.get("time_limit")),
        min_nodes=options.get("min_nodes"),
        secret_env=tuple(dict.fromkeys(options.get("secret_env") or ())),
        tags=tuple(options.get("tags") or ()),
        note=options.get("note") or "",
    )


def _with_words(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options with those that were given as words: `ugro launch model=llama-7b dataset=wikitext`."""
    found: dict[str, Any] = {}
    rest = list(options["args"])
    while rest and (match := _WORD.fullmatch(rest[0])):
        name, value = match.groups()
        if options[name] is not None or name in found:
            raise UsageError(f"{name}={value}", f"--{name} is given twice", "give it once")
        if name in ("epochs", "nodes") and not value.isdecimal():
            raise UsageError(f"{name}={value}", "is not a number", "give a whole number")
        found[name] = int(value) if name in ("epochs", "nodes") else value
        del rest[0]
    if rest and not rest[0].startswith("-"):
        raise UsageError(
            repr(rest[0]), "is no option of the training", "words are model=, dataset=, epochs=, nodes=, name="
        )
    return {**options, **found, "args": tuple(rest)}


def check(request: JobRequest, *, ask_hub: bool = True) -> JobRequest:
    """Return the request with absolute paths, or say what is wrong with it.

    Args:
        request: as it was asked for.
        ask_hub: look a model or data set that is neither embedded nor a local path up on the Hugging Face hub.

    Raises:
        UsageError: a value cannot be used; nothing was changed anywhere.
    """
    check_name(request.name)
    for key, (lowest, highest) in request_options.NUMBERS.items():
        if key == "min_nodes" and request.nodes:
            highest = request.nodes
        option = "--" + key.removesuffix("_s").replace("_", "-")
        _check_number(option, getattr(request, key), lowest, highest)
    request.selection  # noqa: B018  raises what is wrong with --include and --exclude
    for option, names in (("--env", tuple(request.env)), ("--secret-env", request.secret_env)):
        for key in names:
            if not _ENV_NAME.fullmatch(key) or key.startswith("UGRO_"):
                raise UsageError(
                    f"{option} {key!r}", "is not a name that a job may set", "use NAME=VALUE, NAME not UGRO_…"
                )
    for key in request.secret_env:
        if key in request.env:
            raise UsageError(f"--secret-env {key}", "is given by --env too", "leave one out")
    for job in request.after:
        if check_name(job) == request.name:
            raise UsageError(f"--after {job}", "is the job itself", "name another job")
    for text in (*request.args, *request.env.values(), request.model, request.dataset):
        if "\0" in text:
            raise UsageError("an argument", "holds a NUL byte", "remove it")
    values = request.as_dict()
    if request.tags or request.note:
        from ugro_py.experiments.filters import check_note, check_tags

        values |= {"tags": check_tags(request.tags), "note": check_note(request.note)}
    if request.resume is not None:
        values["resume"] = _check_resume(request.resume)
    if request.script is not None:
        values.update(_check_script(request.script, request.workdir))
    elif request.workdir is not None:
        raise UsageError("--workdir", "goes with --script", "give both or neither")
    else:
        values["model"] = check_source("model", request.model, presets(), ask_hub)
        values["dataset"] = check_source("dataset", request.dataset, (EMBEDDED_DATASET,), ask_hub)
    return JobRequest.from_dict(values)


def _check_number(option: str, value: float | None, lowest: int, highest: int) -> None:
    if value is not None and not lowest <= value <= highest:  # not a number compares false
        limit = f"at most {highest}" if value > highest else f"at least {lowest}"
        raise UsageError(f"{option} {value}", f"must be {limit}", "correct it")


def _check_resume(wanted: str) -> str:
    """Return the path of the checkpoint that `wanted` names: a path here, or a job whose newest one is meant."""
    if NAME_PATTERN.fullmatch(wanted) and JobPaths(wanted).root.is_dir():
        newest = checkpoints.newest(JobPaths(wanted))
        if newest is None:
            raise UsageError(f"--resume {wanted}", "the job has no complete checkpoint", "see `ugro results`")
        return str(newest)
    path = Path(wanted).expanduser()
    if not path.exists():
        raise UsageError(f"--resume {wanted}", "is no job and no file here", "see `ugro ps --all`")
    return str(path.resolve())


def _check_script(script: str, workdir: str | None) -> dict[str, str]:
    path = Path(script).expanduser()
    folder = Path(workdir).expanduser().resolve() if workdir is not None else None
    if folder is not None and not path.is_absolute() and not path.exists():
        path = folder / path
    if not path.is_file():
        raise UsageError(f"--script {script}", "there is no such file", "give a path on this machine")
    path = path.resolve()
    if folder is None and path.parent in (Path.home().resolve(), Path("/")):
        raise UsageError(
            f"--script {script}", f"all of {path.parent} would be copied to every node",
            "put it into a folder of its own, or say so with --workdir",
        )  # fmt: skip
    folder = folder or path.parent
    if not path.is_relative_to(folder):
        raise UsageError(f"--script {script}", f"is not inside --workdir {workdir}", "give the folder that holds it")
    return {"script": str(path.relative_to(folder)), "workdir": str(folder)}
