# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What is given to a playbook with -e becomes a request as it is, or is refused by one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ugro_py.cluster import Cluster, Node
from ugro_py.commands.launch import command
from ugro_py.errors import InventoryError, UsageError
from ugro_py.playbook_values import ALIASES, LAUNCH, Values, cluster_of, launch_request, plain

TEMPLATES = ("{{ lookup('pipe', 'id') }}", "{% raw %}", "{# #}", "a{{b")
CLUSTER = Cluster("lab", (Node("n1", "10.0.0.1", "master"), Node("n2", "10.0.0.2")), Path("hosts.yml"))


def request(**values: Any) -> Any:
    return launch_request({"ansible_play_hosts_all": ["n1", "n2"], **values}, CLUSTER)


@pytest.mark.parametrize("key", LAUNCH)
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_is_taken_wherever_it_stands(key: str, template: str) -> None:
    for value in (template, [template], {"A": template}, {template: "1"}, [["x"], {"A": [template]}]):
        with pytest.raises(UsageError, match=f"-e {key}=.* is a template, which is never run") as error:
            request(**{key: value})
        assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_is_taken_as_job_or_switch(template: str) -> None:
    for call in (Values({"job": template}).job, lambda: Values({"force": template}).yes("force", False)):
        with pytest.raises(UsageError, match="is a template"):
            call()


def test_a_playbook_takes_what_the_command_takes() -> None:
    options = {parameter.name for parameter in command.params} - {"dry_run", "detach", "as_json", "no_wait"}
    assert set(LAUNCH) == options - {"secret_env", "tags"} | {"job_tags"}  # `tags` is a word of Ansible's


def test_text_of_a_command_line_and_json_mean_the_same() -> None:
    text = request(
        name="a", epochs="2", nodes="2", args="--lr 0.1 'two words' --json '{\"a\": {\"b\": 1}}'", env="A=1 B='x y'",
        include="n1:0 n2", stall_timeout="2.5", retry="1", job_tags="good 7", note="why  so",
    )  # fmt: skip
    typed = request(
        name="a", epochs=2, nodes=2, args=["--lr", 0.1, "two words", "--json", '{"a": {"b": 1}}'],
        env={"A": 1, "B": "x y"}, include=["n1:0", "n2"], stall_timeout=2.5, retry=1, job_tags=["good", 7],
        note="why  so",
    )  # fmt: skip
    assert text == typed
    assert text.args == ("--lr", "0.1", "two words", "--json", '{"a": {"b": 1}}')
    assert text.env == {"A": "1", "B": "x y"}
    assert (text.tags, text.note) == (("good", "7"), "why  so")
    assert (text.epochs, text.nodes, text.retry, text.stall_timeout_s) == (2, 2, 1, 2.5)


def test_what_is_not_given_comes_from_the_inventory() -> None:
    plain_request = request()
    assert (plain_request.model, plain_request.epochs, plain_request.include) == ("tiny-llama", 2, ())
    assert plain_request.name.startswith("job_")
    assert request(name="a", nodes=None) == request(name="a")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("epochs", "two", "a whole number"),
        ("epochs", True, "a whole number"),
        ("epochs", 1.5, "a whole number"),
        ("nodes", "1e3", "a whole number"),
        ("nodes", "9" * 400, "a whole number"),
        ("name", ["a"], "a text"),
        ("model", "", "a text"),
        ("script", True, "a text"),
        ("note", ["a"], "a text"),
        ("job_tags", True, "a list of texts"),
        ("args", "'open", "words as in a shell"),
        ("args", [["a"]], "a list of texts"),
        ("env", [True], "a list of texts"),
        ("stall_timeout", "soon", "a number of seconds"),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: Any, wanted: str) -> None:
    with pytest.raises(UsageError, match=f"-e {key}=.* must be {wanted}") as error:
        request(**{key: value})
    assert len(str(error.value)) < 200


def test_a_switch_is_true_or_false() -> None:
    assert [Values({"x": value}).yes("x", True) for value in (None, "no", False, "0", 0, "TRUE", 1)] == [
        True, False, False, False, False, True, True,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="must be true or false"):
        Values({"x": "maybe"}).yes("x", True)


def test_a_job_is_named() -> None:
    assert Values({"job": "first_test"}).job() == "first_test"
    with pytest.raises(UsageError, match="is missing"):
        Values({}).job()
    with pytest.raises(UsageError, match="not a valid name"):
        Values({"job": "../x"}).job()


def test_a_misspelt_name_is_refused_and_a_strange_one_is_the_inventorys() -> None:
    Values({}).refuse_unknown(["name", "site_password"], LAUNCH)
    with pytest.raises(UsageError, match="did you mean epochs"):
        Values({}).refuse_unknown(["epoch"], LAUNCH)
    for word in ("tags", "tag", "job_tag"):
        with pytest.raises(UsageError, match="did you mean job_tags"):
            Values({}).refuse_unknown([word], LAUNCH)
    Values({}).refuse_unknown(["tags"], ("job", "force"))
    with pytest.raises(UsageError, match="-e … playbook x: belongs to no name; quote"):
        Values({"note": "from", "_raw_params": "playbook x"}).refuse_unknown(["note", "_raw_params"], LAUNCH)


def test_a_limited_play_limits_the_job() -> None:
    limited = {"ansible_play_hosts_all": ["n2"]}
    assert launch_request(limited, CLUSTER).include == ("n2",)
    assert launch_request({**limited, "include": "n2:0"}, CLUSTER).include == ("n2:0",)
    with pytest.raises(UsageError, match="include=n1: is not among the hosts of the play"):
        launch_request({**limited, "include": "n1"}, CLUSTER)


def test_the_cluster_is_the_plays_inventory() -> None:
    host = {"ansible_host": "10.0.0.1", "ugro_role": "master", "name": "{{ never }}"}
    variables: dict[str, Any] = {"groups": {"ugro_nodes": ["n1"]}, "hostvars": {"n1": host}}
    variables["ansible_inventory_sources"] = ["/etc/hosts.yml"]
    cluster = cluster_of(variables)
    assert [(node.name, node.address) for node in cluster.nodes] == [("n1", "10.0.0.1")]
    with pytest.raises(InventoryError, match=r"/etc/hosts.yml: has no group ugro_nodes with hosts; .* -i PATH"):
        cluster_of({**variables, "groups": {"all": ["n1"]}})


def test_plain_data_has_pythons_own_types() -> None:
    class Text(str):
        pass

    class Number(int):
        pass

    value = plain({Text("a"): [Text("b"), Number(1), True, None, 1.5]})
    assert value == {"a": ["b", 1, True, None, 1.5]}
    assert [type(part) for part in value["a"]] == [str, int, bool, type(None), float]
    assert type(next(iter(value))) is str


def test_words_that_ansible_does_not_warn_of_mean_the_same() -> None:
    # In a process of its own: Ansible replaces functions of Python that torch, imported later, would stumble over.
    names = [*LAUNCH, *ALIASES.values()]
    code = "import json, sys\nfrom ansible.vars.reserved import is_reserved_name as reserved\n"
    code += "print(json.dumps([name for name in json.loads(sys.argv[1]) if reserved(name)]))"
    done = subprocess.run([sys.executable, "-c", code, json.dumps(names)], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == set(ALIASES)
    asked = request(job_name="by_hand", script="train.py", script_args="--lr 0.1")
    assert (asked.name, asked.args) == ("by_hand", ("--lr", "0.1"))
    with pytest.raises(UsageError, match="together with name"):
        request(name="a", job_name="b")
    with pytest.raises(UsageError, match="is a template"):
        request(job_name="{{ 1 }}")
