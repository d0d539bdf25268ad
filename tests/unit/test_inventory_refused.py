"""Inventories that are refused, with which place and words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.inventories import nodes_with, refusal, write
from ugro_py.errors import InventoryError
from ugro_py.inventory import load_cluster

HOST = [
    ("{ugro_rol: worker}", "unknown variable 'ugro_rol'; did you mean 'ugro_role'?"),
    ("{ansibel_host: 10.0.0.2}", "unknown variable 'ansibel_host'; did you mean 'ansible_host'?"),
    ("{http_port: 80}", "unknown variable 'http_port'"),
    ("{ugro_role: boss}", "ugro_role must be master or worker, not 'boss'"),
    ("{ugro_role: master}", "more than one master: gpu-master and gpu1"),
    ("{ansible_host: 10.0.0.1}", "gpu1 has the address 10.0.0.1 port 22 of gpu-master"),
    ("{ansible_host: 10.0.0}", "ansible_host '10.0.0' is not an IPv4 address"),
    ("{ansible_host: 10.0.0.256}", "ansible_host '10.0.0.256' is not an IPv4 address"),
    ("{ansible_host: '10.0.0.2:22'}", "is not an address; ansible_port holds the port"),
    ("{ansible_host: -oProxyCommand=id}", "is not a host name or an address"),
    ("{ansible_host: 'a;id'}", "is not a host name or an address"),
    ("{ansible_host: 127.0.0.1}", "gpu1 has the loopback address 127.0.0.1; set ansible_host to an address"),
    ("{ansible_host: ''}", "ansible_host must be text on one line"),
    ("{ansible_host: [10.0.0.2]}", "ansible_host must be text, not a list"),
    ("{ansible_user: 1000}", "ansible_user must be text, not 1000; put it in quotes"),
    ("{ansible_user: $(whoami)}", "ansible_user '$(whoami)' is not a user name"),
    ("{ansible_user: -l}", "ansible_user '-l' is not a user name"),
    ("{ansible_port: 0}", "ansible_port must be from 1 to 65535, not 0"),
    ("{ansible_port: ssh}", "ansible_port must be a whole number, not 'ssh'"),
    ("{ansible_port: true}", "ansible_port must be a whole number, not True"),
    ("{ansible_connection: docker}", "ansible_connection must be ssh or local, not 'docker'"),
    ("{ansible_python_interpreter: python3}", "is not an absolute path"),
    ("{ugro_python: '/x/$(id)'}", "is not an absolute path"),
    ("{ugro_node_dir: ~/../etc}", "is not an absolute path"),
    ("{ugro_node_dir: '~/my files'}", "is not an absolute path"),
    ("{ansible_ssh_common_args: '-o \"x'}", "ansible_ssh_common_args cannot be split into options"),
    ("{ugro_slots: '2'}", "ugro_slots must be a whole number, not '2'"),
    ("{ugro_slots: -1}", "ugro_slots must be from 0 to 256, not -1"),
    ("{ugro_slots: 1.5}", "ugro_slots must be a whole number, not 1.5"),
    ("{ugro_gpu_count: two}", "ugro_gpu_count must be a whole number, not 'two'"),
    ("{ugro_vram_gb: 8 GB}", "ugro_vram_gb must be a number of GB, not '8 GB'"),
    ("{ugro_vram_gb: .nan}", "ugro_vram_gb must be more than 0"),
    ("{ugro_gpu: on}", "ugro_gpu must be text, not True"),
    ("{ugro_gpu: !vault x}", "ugro_gpu has the tag !vault; UGRO needs it as plain text"),
    ("{ansible_user: !!python/name:os.system }", "ansible_user: could not determine a constructor"),
    ("{ansible_host: \"{{ lookup('pipe', 'id') }}\"}", "is a template; write the value itself"),
    ("{ansible_user: '{% if 1 %}x{% endif %}'}", "is a template"),
    ("{ansible_user: '{# x #}'}", "is a template"),
    ("{ugro_master_port: 1}", "ugro_master_port holds for the whole cluster; move it to `vars:` of ugro_nodes"),
    ("{ansible_user: a, ansible_user: b}", "'ansible_user' is already in host 'gpu1' at"),
    ("{ansible_host: {a: b}}", "ansible_host must be text, not a mapping"),
    ("{<<: &a {<<: *a}}", "`<<` is nested more than 20 deep"),
    ("[ansible_user, kim]", "host 'gpu1' is a list; write a mapping"),
    ("10.0.0.2", "host 'gpu1' is '10.0.0.2'; write a mapping"),
]


@pytest.mark.parametrize(("variables", "message"), HOST, ids=[text for text, _ in HOST])
def test_bad_host_variable_is_refused_with_its_line(tmp_path: Path, variables: str, message: str) -> None:
    file = nodes_with(tmp_path, f"gpu1: {variables}")
    found = refusal(file)
    assert found.startswith(f"{file}:4: ")
    assert message in found


GROUP = [
    ("ugro_cluster_nam: x", "unknown variable 'ugro_cluster_nam'; did you mean 'ugro_cluster_name'?"),
    ("ugro_cluster_name: [x]", "ugro_cluster_name must be text"),
    ("ugro_master_port: 70000", "ugro_master_port must be from 1 to 65535, not 70000"),
    ("ugro_training: {modle: x}", "ugro_training has the unknown key 'modle'; did you mean 'model'?"),
    ("ugro_training: {epochs: 0}", "ugro_training.epochs must be from 1 to 1000000, not 0"),
    ("ugro_training: {dataset: '{{ x }}'}", "ugro_training.dataset '{{ x }}' is a template"),
    ("ugro_recovery: {retry: -1}", "ugro_recovery.retry must be from 0 to 1000, not -1"),
    ("ugro_recovery: {retries: 1}", "ugro_recovery has the unknown key 'retries'; did you mean 'retry'?"),
    ("ugro_health: {interval_s: 0}", "ugro_health.interval_s must be from 1 to 3600, not 0"),
    ("ugro_health: {thresholds: {disk_free_gb_warnin: 1}}", "ugro_health.thresholds has the unknown key"),
    ("ugro_health: {thresholds: {disk_free_gb_warning: a lot}}", "disk_free_gb_warning must be a number"),
    ("ugro_queue: {preemption: maybe}", "ugro_queue.preemption must be true or false"),
    ("ugro_alerts: {urls: json://x}", "ugro_alerts.urls must be a list"),
    ("ugro_alerts: {rules: [{text: '{{ x }}'}]}", "is a template"),
    ("ugro_loki: {url: loki.lan}", "ugro_loki.url 'loki.lan' is no address"),
    ("ugro_loki: {url: 'http://ob:secret@loki.lan'}", "ugro_loki.url must be an address alone"),
    ("ugro_loki: {url: 'http://loki.lan:x'}", "ugro_loki.url 'http://loki.lan:x' is no address"),
    ("ugro_accounts: {alice: -oProxyCommand=id}", "ugro_accounts.alice '-oProxyCommand=id' is not a user name"),
    ("ugro_training: [1]", "ugro_training is a list; write a mapping"),
]


@pytest.mark.parametrize(("variable", "message"), GROUP, ids=[text for text, _ in GROUP])
def test_bad_cluster_variable_is_refused_with_its_line(tmp_path: Path, variable: str, message: str) -> None:
    file = nodes_with(tmp_path, group_vars=variable)
    found = refusal(file)
    assert found.startswith(f"{file}:5: ")
    assert message in found


FILES = [
    ("", "", "the inventory is empty"),
    ("---\n# nothing\n", "", "the inventory is empty"),
    ("a: [\n", ":2", "is not YAML (did not find expected node content)"),
    ("ugro_nodes:\n\thosts:\n", ":2", "is not YAML (found character that cannot start any token)"),
    ("a: 1\n---\nb: 2\n", ":2", "is not YAML"),
    ("ok: x\nbad: \0\n", ":2", "is not YAML"),
    ("[gpu]\ngpu1 ansible_host=10.0.0.1\n", ":2", "is not YAML"),
    ("- gpu1\n", ":1", "the inventory is a list; write a mapping of groups"),
    ("just words\n", ":1", "the inventory is 'just words'"),
    ("all:\n  hosts:\n    gpu1:\n", "", "has no group ugro_nodes"),
    ("ugro_node:\n  hosts:\n    gpu1:\n", "", "has no group ugro_nodes; did you mean 'ugro_node'?"),
    ("ugro_nodes:\n", ":1", "group ugro_nodes has no hosts; see inventory/example/hosts.yml"),
    ("ugro_nodes:\n  hosts:\n    gpu1:\n", ":1", "no node is the master; give one node `ugro_role: master`"),
    (
        "ugro_nodes:\n  host:\n    gpu1:\n",
        ":2",
        "group 'ugro_nodes': 'host' is not hosts, vars or children; did you mean 'hosts'?",
    ),
    ("ugro_nodes:\n  hosts: [gpu1]\n", ":2", "hosts of group 'ugro_nodes' is a list; write one name a line"),
    ("ugro_nodes:\n  hosts:\n    GPU1:\n", ":3", "node name 'GPU1' is not a valid name"),
    ("ugro_nodes:\n  hosts:\n    gpu[1:3]:\n", ":3", "node name 'gpu[1:3]' is not a valid name"),
    ("ugro_nodes:\n  hosts:\n    ../x:\n", ":3", "node name '../x' is not a valid name"),
    ("ugro_nodes:\n  hosts:\n    {{ x }}:\n", ":3", "a key is not plain text; is a template missing its quotes?"),
    ("ugro_nodes:\n  hosts:\n    a:\n    b:\n    a:\n", ":5", "'a' is already in hosts of group 'ugro_nodes' at"),
    ("all: &a\n  children:\n    ugro_nodes: *a\n", ":3", "nested more than 20 deep"),
    ("ugro_nodes:\n  hosts:\n    a: {<<: [1]}\n", ":3", "`<<` does not name a mapping"),
    ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", "", "is encrypted with Ansible Vault"),
    ("x: " + "y" * (1 << 20), "", "is larger than 1 MiB"),
    ("x: " + "[" * 100_000, ":1", "is not an inventory (nested more than 200 deep)"),
    ("x:\n" + "- " * 100_000, ":2", "is not an inventory (nested more than 200 deep)"),
    ("x:\n" + "? " * 100_000, ":2", "is not an inventory (nested more than 200 deep)"),
]


@pytest.mark.parametrize(("text", "line", "message"), FILES, ids=[text[:30] for text, _, _ in FILES])
def test_bad_file_is_refused(tmp_path: Path, text: str, line: str, message: str) -> None:
    file = write(tmp_path, text)
    found = refusal(file)
    assert found.startswith(f"{file}{line}: ")
    assert message in found


def test_exponential_aliases_end_quickly(tmp_path: Path) -> None:
    lists = "".join(f", x{n + 1}: &x{n + 1} [{f'*x{n},' * 9}]" for n in range(20))
    file = nodes_with(tmp_path, f"gpu1: {{ansible_x: &x0 1{lists.replace(' x', ' ansible_x')}, ugro_gpu: *x20}}")
    assert "ugro_gpu must be text, not a list" in refusal(file)


def test_missing_file_and_folder_without_hosts(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.yml"
    assert refusal(missing) == f"{missing}: no such file; give the inventory with -i PATH or $UGRO_INVENTORY"
    assert refusal(tmp_path) == f"{tmp_path}: the folder has no hosts.yml; give the inventory with -i PATH"


def test_bad_variable_in_group_vars_names_that_file(tmp_path: Path) -> None:
    file = nodes_with(tmp_path)
    beside = tmp_path / "group_vars" / "all.yml"
    beside.parent.mkdir()
    beside.write_text("# cluster\nugro_slot: 2\n")
    assert refusal(file) == f"{beside}:2: unknown variable 'ugro_slot'; did you mean 'ugro_slots'?"


def test_same_address_on_another_port_is_another_node(tmp_path: Path) -> None:
    cluster = load_cluster(nodes_with(tmp_path, "gpu1: {ansible_host: 10.0.0.1, ansible_port: 2222}"))
    assert [node.port for node in cluster.nodes] == [22, 2222]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text("ugro_nodes:hst -{}[]&*<!\n 1'\"", max_size=80).map(str.encode))
def test_any_bytes_are_a_cluster_or_an_inventory_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yml"
    file.write_bytes(data)
    try:
        load_cluster(file)
    except InventoryError as error:
        assert str(error).startswith(str(file))
