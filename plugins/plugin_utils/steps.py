# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What the action plugins of the collection share. They run on the controller, beside the Python package `ugro`."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars


class Step(ActionBase):  # type: ignore[misc]
    """An action that is one step of UGRO's engine; subclasses give `ARGUMENTS` and `step`."""

    ARGUMENTS: dict[str, Any] = {}
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the step; an error of the engine is a failure with its one line and its exit code."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(argument_spec=self.ARGUMENTS)
        try:
            from ugro_py.errors import UgroError
        except ImportError as error:
            raise AnsibleActionFail(f"import ugro_py: {error}; `pip install ugro` beside Ansible") from error
        try:
            result.update(self.step(arguments, task_vars or {}))
        except UgroError as error:
            result.update(failed=True, msg=str(error), exit_code=error.exit_code)
        except asyncio.CancelledError:
            result.update(failed=True, msg="interrupted")
        return result

    @abstractmethod
    def step(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Do the work and return the result; `variables` are Ansible's, not templated."""

    @property
    def check_mode(self) -> bool:
        return bool(self._task.check_mode)

    def extra_names(self) -> list[str]:
        """Return the names that were given with `-e`."""
        return list(load_extra_vars(self._loader))


def say(line: str) -> None:
    """Print a line at once; a worker of Ansible has no standard output of its own."""
    Display().display(line)
