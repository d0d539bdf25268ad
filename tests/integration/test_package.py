# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What `pip install` of the wheel, and the collection's tarball, give a user who has no checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
# What a user gets, at the top of the collection.
SHIPPED = {"FILES.json", "MANIFEST.json", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "changelogs"} | {
    *("docs", "meta", "playbooks", "plugins", "requirements", "roles"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as `make build` does, with the packages that are installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return next(folder.glob("ugro-*.whl"))


class Installed:
    """An environment with the wheel, a home and a working directory, all empty but for that."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.environment, self.home, self.empty = folder / "venv", folder / "home", folder / "empty"
        self.home.mkdir()
        self.empty.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.environment], check=True)
        self.python = self.environment / "bin" / "python"
        pip = [sys.executable, "-m", "pip", f"--python={self.python}", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, wheel], check=True, cwd=folder, capture_output=True)
        self._borrow()

    def _borrow(self) -> None:
        """Link what the wheel depends on, so that nothing is downloaded; UGRO itself is only the wheel's."""
        packages = next(self.environment.glob("lib/python*/site-packages"))
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            ours = re.match(r"_?(?:__editable__.*)?ugro", entry.name, re.I) or entry.name == "ansible_collections"
            if not ours and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command as that user; the development environment is not on the PATH."""
        environment = {
            "HOME": str(self.home),
            "UGRO_DATA": str(self.home / "ugro_data"),
            "PATH": f"{self.environment / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
        return subprocess.run(
            argv, cwd=self.empty, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def playbook(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `ansible-playbook` of that environment."""
        return self.run(self.python, "-m", "ansible", "playbook", *arguments)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an empty environment."""
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_command_runs_from_the_wheel_alone(installed: Installed) -> None:
    shown = installed.run("ugro", "--version")
    version = re.search(r'__version__ = "(.+)"', (CHECKOUT / "ugro_py" / "__init__.py").read_text())
    assert version is not None
    assert shown.stdout.strip() == f"ugro, version {version[1]}", shown.stderr
    program = "import ugro_py, ansible_collections.ugro.cluster.plugins.module_utils.gpu as gpu; print(ugro_py, gpu)"
    modules = installed.run(installed.python, "-c", program).stdout
    assert modules.count(f"from '{installed.environment}/lib/") == 2, modules


def test_a_dry_run_plans_the_three_nodes_of_this_machine(installed: Installed) -> None:
    shown = installed.run("ugro", "launch", "--dry-run")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for name in ("gpu-master", "gpu1", "gpu2", "torch.distributed.run"):
        assert name in shown.stdout
    assert list(installed.empty.iterdir()) == []


def test_playbooks_run_by_name(installed: Installed) -> None:
    inventory = next(installed.environment.glob("lib/python*/site-packages/ugro_py/_data/inventory/local"))
    shown = installed.playbook("ugro.cluster.verify", "-i", inventory)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for name in ("gpu-master", "gpu1", "gpu2"):
        assert re.search(rf"^[✓!] {name}: ", shown.stdout, re.M), shown.stdout
    bare = installed.playbook("ugro.cluster.verify")
    assert bare.returncode == 0, bare.stdout + bare.stderr
    assert "no inventory was given: this machine alone" in bare.stdout
    ill = installed.playbook("ugro.cluster.verify", "-i", inventory, "-e", "verify_train_python=/nonexistent/python")
    assert ill.returncode == 2
    assert "/nonexistent/python" in ill.stdout


def test_the_wheel_holds_the_whole_collection_and_nothing_of_development(wheel: Path) -> None:
    """Every tracked file of these folders, and no cache, test or tool."""
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "meta", "plugins", "roles", "playbooks", "galaxy.yml"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert [path for path in tracked if f"ansible_collections/ugro/cluster/{path}" not in held] == []
    parts = {part for path in held for part in PurePosixPath(path).parts}
    assert parts.isdisjoint({"__pycache__", "tests", "molecule", "benchmarks", ".venv", ".dev"})


def test_the_collection_tarball_holds_only_what_is_for_users(tmp_path: Path) -> None:
    galaxy = [sys.executable, "-m", "ansible", "galaxy", "collection", "build", "--output-path", str(tmp_path)]
    subprocess.run(galaxy, cwd=CHECKOUT, check=True, capture_output=True, env={**os.environ, "HOME": str(tmp_path)})
    with tarfile.open(next(tmp_path.glob("ugro-cluster-*.tar.gz"))) as tarball:
        names = {member.name for member in tarball.getmembers()}
        links = [member for member in tarball.getmembers() if member.issym()]
    assert {PurePosixPath(name).parts[0] for name in names} <= SHIPPED
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    for link in links:  # a link must lead to something that is shipped too
        assert os.path.normpath(PurePosixPath(link.name).parent / link.linkname) in names, link.name
