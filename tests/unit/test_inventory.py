"""Inventories: what is read, and that it is what Ansible reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.inventories import nodes_with, write
from ugro_py import paths
from ugro_py.cluster import Cluster, Node, TrainingDefaults
from ugro_py.errors import InventoryError
from ugro_py.inventory import cluster_from_hostvars, inventory_file, load_cluster

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_INVENTORY = Path(sys.executable).with_name("ansible-inventory")

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
    hostvars["ugro_role"] = "master"
    assert cluster_from_hostvars({"gpu1": hostvars}, "/inv", known=["ugro_mine"]).nodes == (
        Node("gpu1", "10.0.0.1", role="master"),
    )


def test_hostvars_get_the_same_checks() -> None:
    with pytest.raises(InventoryError, match=r"^/inv: host gpu1: unknown variable 'ugro_slot'; did you mean 'ugro_sl"):
        cluster_from_hostvars({"gpu1": {"ugro_slot": 1}}, "/inv")
    with pytest.raises(InventoryError, match=r"^/inv: host gpu1: ugro_slots: ugro_slots must be a whole number"):
        cluster_from_hostvars({"gpu1": {"ugro_slots": "x"}}, "/inv")
    with pytest.raises(InventoryError, match=r"^/inv: host b: ansible_host: b has the address 10.0.0.1 port 22 of a"):
        hosts = {"a": {"ansible_host": "10.0.0.1", "ugro_role": "master"}, "b": {"ansible_host": "10.0.0.1"}}
        cluster_from_hostvars(hosts, "/inv")
    with pytest.raises(InventoryError, match=r"^/inv: group ugro_nodes has no hosts"):
        cluster_from_hostvars({}, "/inv")
    with pytest.raises(InventoryError, match=r"ugro_training.model '{{ x }}' is a template"):
        cluster_from_hostvars({"a": {"ugro_role": "master", "ugro_training": {"model": "{{ x }}"}}}, "/inv")


def test_loading_needs_nothing_heavy() -> None:
    """Every verb reads the inventory first."""
    code = (
        "import sys\nfrom ugro_py.inventory import load_cluster\nload_cluster()\n"
        "assert not {'ansible', 'pydantic', 'ruamel', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
