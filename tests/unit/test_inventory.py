"""Inventories: what is read, and what is refused with which place and words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugro_py import paths
from ugro_py.cluster import Cluster, Node, TrainingDefaults
from ugro_py.errors import InventoryError
from ugro_py.inventory import cluster_from_hostvars, inventory_file, load_cluster, node_from_hostvars

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_INVENTORY = Path(sys.executable).with_name("ansible-inventory")

MASTER = "    gpu-master: {ugro_role: master, ansible_host: 10.0.0.1}\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "hosts.yml"
    file.write_text(text)
    return file


def nodes_with(folder: Path, *hosts: str, group_vars: str = "") -> Path:
    """An inventory with a master (line 3) and further hosts from line 4 on."""
    body = "ugro_nodes:\n  hosts:\n" + MASTER + "".join(f"    {host}\n" for host in hosts)
    return write(folder, body + (f"  vars:\n    {group_vars}\n" if group_vars else ""))


def refusal(path: Path) -> str:
    with pytest.raises(InventoryError) as caught:
        load_cluster(path)
    assert caught.value.exit_code == 3
    return str(caught.value)


# --- what is read ---------------------------------------------------------------------------------------------


def test_embedded_inventory_is_this_machine_as_three_local_nodes() -> None:
    cluster = load_cluster(paths.embedded_inventory())
    assert [node.name for node in cluster.nodes] == ["gpu-master", "gpu1", "gpu2"]
    assert cluster.master.name == "gpu-master"
    for node in cluster.nodes:
        assert (node.connection, node.address, node.slots) == ("local", "127.0.0.1", 1)
        assert node.python == node.train_python == sys.executable
    assert cluster.training == TrainingDefaults()


def test_example_is_the_home_lab() -> None:
    cluster = load_cluster(ROOT / "inventory" / "example")
    assert cluster.name == "Home AI Lab"
    assert cluster.master_port == 29500
    assert [(n.name, n.address, n.user, n.role, n.gpu, n.vram_gb) for n in cluster.nodes] == [
        ("gpu-master", "192.168.1.100", None, "master", "RTX 5070 Ti", 12.0),
        ("gpu1", "192.168.1.101", "ob", "worker", "RTX 4070", 8.0),
        ("gpu2", "192.168.1.102", "ollie", "worker", "RTX 3070 Ti", 8.0),
    ]
    assert cluster.training == TrainingDefaults("tiny-llama", "wikitext", 1, 1, 8)


def test_every_variable_reaches_its_field(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
all:
  vars:
    ugro_master_port: 29600
    launch_sync_window: "{{ 3 * 10 }}"
    ansible_become_password: !vault |
      $ANSIBLE_VAULT;1.1;AES256
      6162
ugro_nodes:
  hosts:
    gpu1:
      ansible_host: gpu1.lan
      ansible_user: kim
      ansible_port: "2222"
      ansible_ssh_private_key_file: /keys/lab
      ansible_ssh_common_args: -o ProxyJump=door -o "User Known=a b"
      ansible_python_interpreter: /usr/bin/python3.12
      ugro_gpu: RTX 4070
      ugro_gpu_count: 2
      ugro_vram_gb: 8
      ugro_slots: 3
      ugro_python: ~/torch/bin/python
      ugro_node_dir: /data/ugro
    head:
      ugro_role: master
      ansible_connection: ansible.builtin.local
      ansible_host: 10.0.0.9
""",
    )
    assert load_cluster(file) == Cluster(
        name="ugro",
        nodes=(
            Node("head", "10.0.0.9", role="master", connection="local", python=sys.executable),
            Node(
                "gpu1",
                "gpu1.lan",
                user="kim",
                port=2222,
                ssh_key="/keys/lab",
                ssh_args=("-o", "ProxyJump=door", "-o", "User Known=a b"),
                python="/usr/bin/python3.12",
                train_python="~/torch/bin/python",
                node_dir="/data/ugro",
                gpu="RTX 4070",
                gpu_count=2,
                vram_gb=8.0,
                slots=3,
            ),
        ),
        source=file,
        master_port=29600,
    )


def test_host_name_is_the_address_unless_one_is_given(tmp_path: Path) -> None:
    cluster = load_cluster(nodes_with(tmp_path, "gpu1.lan:"))
    assert cluster.node("gpu1.lan").address == "gpu1.lan"


def test_the_two_known_templates_are_filled_in(tmp_path: Path) -> None:
    group_vars = 'ansible_user: "u-{{inventory_hostname}}"'
    cluster = load_cluster(nodes_with(tmp_path, "gpu1:", group_vars=group_vars))
    assert cluster.node("gpu1").user == "u-gpu1"


def test_merge_keys_and_anchors(tmp_path: Path) -> None:
    file = nodes_with(
        tmp_path,
        "gpu1: &card {ugro_gpu: RTX 4070, ugro_vram_gb: 8}",
        "gpu2: {<<: &big {<<: *card, ugro_vram_gb: 12}}",
        "gpu3: {<<: [*big, {ugro_vram_gb: 9, ansible_user: kim}]}",
    )
    found = [(n.gpu, n.vram_gb, n.user) for n in load_cluster(file).nodes[1:]]
    assert found == [("RTX 4070", 8.0, None), ("RTX 4070", 12.0, None), ("RTX 4070", 12.0, "kim")]


def test_variables_of_roles_and_foreign_groups_are_left_alone(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
ugro_nodes:
  hosts:
    gpu1: {ugro_role: master, health_max_temperature: 80}
web:
  hosts: {www: {anything: goes}}
  vars: {http_port: 80}
monitored:
  hosts: {gpu1: }
  vars: {exporter_port: 9100, ansible_user: kim}
""",
    )
    assert load_cluster(file).nodes == (Node("gpu1", "gpu1", role="master", user="kim"),)


@pytest.mark.parametrize("name", ["ugro_nodes", "ugro_nodes.yml", "ugro_nodes.yaml", "ugro_nodes/main.yml"])
def test_group_vars_beside_the_inventory(tmp_path: Path, name: str) -> None:
    file = nodes_with(tmp_path, "gpu1:")
    path = tmp_path / "group_vars" / name
    path.parent.mkdir(parents=True)
    path.write_text("ugro_cluster_name: Attic\nugro_training:\n  epochs: 3\n")
    path.with_name("vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "gpu1.yml").write_text("ansible_user: kim\n")
    cluster = load_cluster(file)
    assert (cluster.name, cluster.training.epochs, cluster.node("gpu1").user) == ("Attic", 3, "kim")


def test_folder_stands_for_its_hosts_yml(tmp_path: Path) -> None:
    file = nodes_with(tmp_path)
    assert inventory_file(tmp_path) == inventory_file(file) == file


def test_without_a_path_the_users_inventory_wins_over_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_cluster(None).source == paths.embedded_inventory()
    own = paths.user_inventory()
    own.parent.mkdir(parents=True)
    nodes_with(own.parent)
    assert load_cluster(None).source == own


# --- what is refused ------------------------------------------------------------------------------------------

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


# --- the same as Ansible --------------------------------------------------------------------------------------

LAYERED = """
all:
  vars: {ansible_user: from-all, ansible_port: 1, ugro_cluster_name: from-all}
  children:
    ugro_nodes:
      vars: {ansible_user: from-nodes, ugro_slots: 2, ugro_gpu: from-nodes, ugro_cluster_name: from-nodes}
      hosts:
        head: {ugro_role: master}
      children:
        big:
          vars: {ansible_user: from-big, ugro_gpu: from-big}
          hosts:
            gpu1:
            gpu2: {ansible_user: from-host, ansible_port: 4}
    zoo:
      vars: {ansible_user: from-zoo, ugro_vram_gb: 9}
      hosts: {gpu1: , head: }
"""
BESIDE = {
    "group_vars/all.yml": "ansible_user: from-gv-all\nugro_slots: 5\nugro_cluster_name: from-gv-all\n",
    "group_vars/big/a.yml": "ansible_port: 7\n",
    "group_vars/big/b.yml": "ansible_port: 8\n",
    "host_vars/gpu2.yml": "ansible_port: 9\n",
}


@pytest.mark.parametrize("files", [{}, BESIDE], ids=["one file", "with group_vars and host_vars"])
def test_precedence_is_ansibles(tmp_path: Path, files: dict[str, str]) -> None:
    file = write(tmp_path, LAYERED)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    listed = subprocess.run(
        [ANSIBLE_INVENTORY, "-i", file, "--list"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    hostvars = json.loads(listed.stdout)["_meta"]["hostvars"]
    cluster = load_cluster(file)
    assert cluster_from_hostvars({node.name: hostvars[node.name] for node in cluster.nodes}, file) == cluster
    assert len(cluster.nodes) == 3


@pytest.mark.parametrize("name", ["example", "local"])
def test_shipped_inventories_are_the_same_for_ansible(name: str) -> None:
    file = ROOT / "inventory" / name / "hosts.yml"
    listed = subprocess.run(
        [ANSIBLE_INVENTORY, "-i", file, "--list"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    data = json.loads(listed.stdout)
    order = data["ugro_nodes"]["hosts"]
    assert cluster_from_hostvars({n: data["_meta"]["hostvars"][n] for n in order}, file) == load_cluster(file)
    assert "[WARNING]" not in listed.stderr


# --- host variables -------------------------------------------------------------------------------------------


def test_hostvars_may_hold_facts_and_variables_of_the_playbook() -> None:
    hostvars = {"ansible_host": "10.0.0.1", "model": "{{ x }}", "groups": {}, "ugro_wait": False, "ugro_mine": 1}
    assert node_from_hostvars("gpu1", hostvars, known=["ugro_mine"]) == Node("gpu1", "10.0.0.1")


def test_hostvars_get_the_same_checks() -> None:
    with pytest.raises(InventoryError, match=r"^host gpu1: unknown variable 'ugro_slot'; did you mean 'ugro_slots'"):
        node_from_hostvars("gpu1", {"ugro_slot": 1})
    with pytest.raises(InventoryError, match=r"^host gpu1: ugro_slots: ugro_slots must be a whole number"):
        node_from_hostvars("gpu1", {"ugro_slots": "x"})
    with pytest.raises(InventoryError, match=r"^/inv: host b: ansible_host: b has the address 10.0.0.1 port 22 of a"):
        hosts = {"a": {"ansible_host": "10.0.0.1", "ugro_role": "master"}, "b": {"ansible_host": "10.0.0.1"}}
        cluster_from_hostvars(hosts, "/inv")
    with pytest.raises(InventoryError, match=r"^/inv: group ugro_nodes has no hosts"):
        cluster_from_hostvars({}, "/inv")
    with pytest.raises(InventoryError, match=r"ugro_training.model '{{ x }}' is a template"):
        cluster_from_hostvars({"a": {"ugro_role": "master", "ugro_training": {"model": "{{ x }}"}}}, "/inv")


def test_loading_is_quick_and_needs_no_ansible() -> None:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from ugro_py.inventory import load_cluster; load_cluster()\n"
        "took = time.perf_counter() - start\n"
        "assert not {'ansible', 'pydantic', 'ruamel', 'torch'} & set(sys.modules), sorted(sys.modules)\n"
        "print(took)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.15, times  # 0.05 s on the slowest machine used so far
