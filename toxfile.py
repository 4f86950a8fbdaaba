"""Lets tox environments of different names live in one folder, so that torch is installed once.

tox notes an environment's name in its folder and empties the folder when another name comes. The
runner here notes the folder's name instead; everything else (changed dependencies, another Python)
still makes the environment new. ``tox.ini`` selects it with ``runner = shared-virtualenv``.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class FolderInfo(Info):
    """What tox knows about an environment's folder, whatever the environment is called."""

    @contextmanager
    def compare(
        self, value: Any, section: str, sub_section: str | None = None
    ) -> Generator[tuple[bool, Any], None, None]:
        if section == ToxEnv.__name__:
            value = {**value, "name": "shared"}
        with super().compare(value, section, sub_section) as outcome:
            yield outcome


class SharedVirtualEnv(VirtualEnvRunner):
    """A virtual environment that several tox environments use, one after the other."""

    @staticmethod
    def id() -> str:
        return "shared-virtualenv"

    @property
    def cache(self) -> Info:
        return FolderInfo(self.env_dir)


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    register.add_run_env(SharedVirtualEnv)
