# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

from refloat_service import lean


def _modules(program: str) -> set[str]:
    argv = [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"]
    return set(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split())


def test_an_agent_carries_about_only_what_it_uses() -> None:
    modules = _modules("import refloat_agent.main")

    assert "structlog" in modules
    assert modules.isdisjoint({"rich", "pygments", "typer", "amqtt", "aiomqtt", "psutil", "refloat_checks.nhc.live"})


def test_whoever_needs_rich_in_an_agents_process_still_gets_it() -> None:
    assert "rich.console" in _modules("import refloat_agent.main, rich.console")


def test_memory_is_given_back_without_complaint() -> None:
    lean.give_back()
