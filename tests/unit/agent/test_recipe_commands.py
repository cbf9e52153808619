# SPDX-License-Identifier: Apache-2.0
"""The commands of recipes and the services: where the first failure ends it, and where it does not."""

from pathlib import Path

import pytest

from refloat_agent.effects.recipes import RecipeCommands
from refloat_agent.effects.services import SystemdServices
from refloat_contract.errors import Refused


@pytest.mark.parametrize(("keep_going", "ran"), [(False, False), (True, True)])
async def test_after_a_command_that_fails_the_others_run_only_if_they_may(
    tmp_path: Path, *, keep_going: bool, ran: bool
) -> None:
    argvs = (("false",), ("touch", str(tmp_path / "second")))

    with pytest.raises(Refused, match="false: exit status 1"):
        await RecipeCommands().run(argvs, 5.0, keep_going=keep_going)

    assert (tmp_path / "second").exists() == ran


async def test_every_failure_is_told_when_all_get_their_turn() -> None:
    with pytest.raises(Refused, match=r"false: .*; cannot run no-such-program"):
        await RecipeCommands().run((("false",), ("no-such-program",)), 5.0, keep_going=True)


@pytest.mark.parametrize(("keep_going", "stopped"), [(False, ["a"]), (True, ["a", "b", "c"])])
async def test_after_a_service_that_does_not_stop_the_others_stop_only_if_they_may(
    monkeypatch: pytest.MonkeyPatch, *, keep_going: bool, stopped: list[str]
) -> None:
    asked: list[str] = []

    async def systemctl(self: SystemdServices, verb: str, unit: str) -> None:
        asked.append(unit)
        if unit == "a":
            raise Refused(f"systemctl {verb} a: exit status 1")

    monkeypatch.setattr(SystemdServices, "_systemctl", systemctl)

    with pytest.raises(Refused, match="stop a"):
        await SystemdServices(("a", "b", "c"), 5.0).stop(keep_going=keep_going)

    assert asked == stopped
