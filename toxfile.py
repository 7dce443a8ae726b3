"""All tox environments in one virtual environment.

tox keys a virtual environment by the environment's name and rebuilds it when another name comes along; here that would
install torch again for every change from `test` to `lint`. This runner leaves the name out of the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tox.plugin import impl
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tox.tox_env.register import ToxEnvRegister


class _NamelessInfo(Info):
    def compare(
        self, value: Any, section: str, sub_section: str | None = None
    ) -> AbstractContextManager[tuple[bool, Any]]:
        if section == "ToxEnv":
            value = {key: said for key, said in value.items() if key != "name"}
        return super().compare(value, section, sub_section)


class SharedRunner(VirtualEnvRunner):
    """A virtual environment that several tox environments share."""

    @staticmethod
    def id() -> str:
        """Name of the runner in tox.ini."""
        return "shared"

    @property
    def cache(self) -> Info:
        """What tox remembers of the environment, without its name."""
        return _NamelessInfo(self.env_dir)


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    """Offer the runner to tox.ini."""
    register.add_run_env(SharedRunner)
