"""What a person gives a playbook with `-e`, taken as it is: nothing here runs a template.

Ansible would evaluate `{{ … }}` in such a value on this machine as soon as a task used it. So action plugins read the
values from Ansible's variables without its templating, here, and a template in one is refused.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ugro_py import paths
from ugro_py.cluster import Cluster
from ugro_py.errors import InventoryError, UsageError
from ugro_py.inventory import GROUP, cluster_from_hostvars
from ugro_py.names import check_name
from ugro_py.request.job import JobRequest, request_of

_TEXTS = ("name", "model", "dataset", "script", "workdir", "resume", "gpus", "priority", "time_limit", "note")
_NUMBERS = ("epochs", "batch_size", "gradient_accumulation", "nodes", "retry", "min_nodes")
_LISTS = ("include", "exclude", "args", "env", "after", "job_tags")
LAUNCH = (*_TEXTS, *_NUMBERS, *_LISTS, "stall_timeout", "hold")
"""The values that `playbooks/launch.yml` takes, beside `queue` and `ugro_wait`."""

ALIASES = {"name": "job_name", "args": "script_args"}
"""Other words for values whose own are reserved: with those Ansible prints a warning, and takes them all the same."""
_MEANT = {"tags": "job_tags", "tag": "job_tags"}
"""Words of Ansible's own that somebody may take for ours; in an inventory they may well be something else."""
_NO_NAMES = "_raw_params"
"""Where Ansible puts the words of an `-e` that belong to no name."""

_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def plain(data: Any) -> Any:
    """Return data of Ansible's as Python's own types, without what Ansible attaches to them."""
    if isinstance(data, Mapping):
        return {plain(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    if isinstance(data, str):
        return str.__str__(data)
    if isinstance(data, bool) or data is None:
        return data
    for kind in (int, float):
        if isinstance(data, kind):
            return kind(data)
    return str(data)


class Values:
    """The `-e` values of a playbook.

    Args:
        variables: Ansible's variables, not templated.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables

    def _get(self, key: str) -> Any:
        """Return a value, None if it is not given.

        Raises:
            UsageError: it holds a template.
        """
        value = plain(self._variables.get(key))
        for text in _texts(value):
            if _TEMPLATE.search(text):
                raise UsageError(
                    f"-e {key}={_shown(text)}", "is a template, which is never run", "write the value itself"
                )
        return value

    def _wrong(self, key: str, value: Any, wanted: str) -> UsageError:
        return UsageError(f"-e {key}={_shown(value)}", f"must be {wanted}", "correct it")

    def text(self, key: str) -> str | None:
        """Return a text; a bare number is one too."""
        value = self._get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise self._wrong(key, value, "a text")
        return value

    def number(self, key: str) -> int | None:
        """Return a whole number, typed or as text."""
        value = self._get(key)
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            return int(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self._wrong(key, value, "a whole number")
        return value

    def seconds(self, key: str) -> float | None:
        """Return a number of seconds, typed or as text."""
        value = self._get(key)
        if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
            return float(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self._wrong(key, value, "a number of seconds")
        return value

    def yes(self, key: str, default: bool) -> bool:
        """Return true or false, typed or as text."""
        value = self._get(key)
        if value is None:
            return default
        known = _WORDS.get(str(value).strip().lower())
        if known is None:
            raise self._wrong(key, value, "true or false")
        return known

    def words(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; a text is split as a shell would, a mapping gives NAME=VALUE pairs."""
        value = self._get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            try:
                return tuple(shlex.split(value))
            except ValueError as error:
                raise self._wrong(key, value, f"words as in a shell ({error})") from None
        if isinstance(value, Mapping):
            value = [f"{name}={self._word(key, one)}" for name, one in value.items()]
        elif not isinstance(value, list):
            value = [value]
        return tuple(self._word(key, one) for one in value)

    def _word(self, key: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(key, value, "a list of texts")
        return str(value)

    def job(self) -> str:
        """Return `-e job=NAME`.

        Raises:
            UsageError: it is missing or no valid name.
        """
        name = self.text("job")
        if name is None:
            raise UsageError("-e job=NAME", "is missing", "see `ugro ps` for the jobs")
        return check_name(name)

    def refuse_unknown(self, given: Iterable[str], known: Collection[str]) -> None:
        """Refuse a misspelt `-e`; a name that is close to none of ours may be the inventory's.

        Raises:
            UsageError: one of the names `given` is probably meant to be one that is known; or words were given that
                belong to none.
        """
        for name in (plain(name) for name in given if name not in known):
            if name == _NO_NAMES:  # `note=two words` is the note "two": nobody means that
                words = _shown(str(plain(self._variables.get(name, ""))))
                raise UsageError(
                    f"-e … {words}", "belongs to no name", "quote what has spaces: -e \"note='two words'\""
                )
            near = difflib.get_close_matches(_MEANT.get(name, name), known, 1, cutoff=0.8)
            if near:
                raise UsageError(f"-e {_shown(name)}", "is not known", f"did you mean {near[0]}?")


def _texts(value: Any) -> Iterable[str]:
    """Yield every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            for part in pair:
                yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 60 else text[:57] + "..."


def cluster_of(variables: Mapping[str, Any]) -> Cluster:
    """Return the cluster of the inventory that the playbook runs on.

    Raises:
        InventoryError: it has no group `ugro_nodes`, or is not valid.
    """
    sources = [str(source) for source in variables.get("ansible_inventory_sources") or ()]
    source = ", ".join(sources) or "no inventory"
    names = plain(variables["groups"].get(GROUP) or [])
    if not names:
        raise InventoryError(
            source,
            f"has no group {GROUP} with hosts",
            f"give the inventory with -i PATH (this machine alone: {paths.embedded_inventory()})",
        )
    return cluster_from_hostvars({name: _Plain(variables["hostvars"][name]) for name in names}, source)


class _Plain(Mapping[str, Any]):
    """Variables of a host, each as plain data when it is asked for: only those are templated that UGRO uses."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def __getitem__(self, key: str) -> Any:
        return plain(self._data[key])

    def __iter__(self) -> Any:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


def launch_request(variables: Mapping[str, Any], cluster: Cluster) -> JobRequest:
    """Return the job that the `-e` values ask for; `request.check` has yet to pass it.

    Raises:
        UsageError: a value is not of its type, holds a template, or asks for a node outside the play's hosts.
    """
    values = Values(variables)
    options: dict[str, Any] = {key: values.text(key) for key in _TEXTS}
    options |= {key: values.number(key) for key in _NUMBERS} | {key: values.words(key) for key in _LISTS}
    for key, alias in ALIASES.items():
        other = values.words(alias) if key in _LISTS else values.text(alias)
        if other and options[key]:
            raise UsageError(f"-e {alias}", f"is given together with {key}, which means the same", "give one of them")
        options[key] = options[key] or other
    options["tags"] = options.pop("job_tags")
    options["hold"] = values.yes("hold", False)
    options["stall_timeout"] = values.seconds("stall_timeout") or 0.0
    options["include"] = _within(plain(variables["ansible_play_hosts_all"]), cluster, options["include"])
    return request_of(cluster, options)


def _within(hosts: list[str], cluster: Cluster, include: tuple[str, ...]) -> tuple[str, ...]:
    """Return the nodes to include so that the job stays on the hosts of the play (`--limit`)."""
    outside = [word for word in include if word.partition(":")[0] not in hosts]
    if outside:
        raise UsageError(
            f"-e include={_shown(outside[0])}", "is not among the hosts of the play", f"these are: {', '.join(hosts)}"
        )
    names = [node.name for node in cluster.nodes]
    return include or (() if set(names) <= set(hosts) else tuple(name for name in names if name in hosts))
