"""Every recorded answer of NHC's checks, asked again in strict mode."""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.hardware import IbPort, Infiniband, Memory, Processors
from refloat_checks.nhc.native import NhcOutcome
from refloat_checks.nhc.registry import find

DATA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "nhc_check_vectors.json").read_text())
VECTORS: list[dict[str, Any]] = [vector for vector in DATA["vectors"] if find(vector["check"]) is not None]


def fixture(name: str) -> dict[str, Any]:
    """Give a fixture with what it adds to the one it is based on."""
    own: dict[str, Any] = DATA["fixtures"][name]
    return {**fixture(own["base"]), **own} if "base" in own else own


def of_hardware(name: str) -> dict[str, Any]:
    seen = fixture(name)
    ports = tuple(IbPort(port["dev"], port["state"], port["phys_state"], port["rate"]) for port in seen["ib"])
    return {
        "processors": Processors(seen["sockets"], seen["cores"], seen["threads"]),
        "memory": Memory(*(seen[key] for key in ("ram_total_kb", "ram_free_kb", "swap_total_kb", "swap_free_kb"))),
        "InfiniBand ports": Infiniband(ports, seen["ib_umad_abi_ver"]),
        "kernel modules": tuple(seen["modules"]),
        "network devices": tuple(seen["eth"]),
    }


RECORDED: Mapping[str, Callable[[str], dict[str, Any]]] = {"hw": of_hardware, "hw_gm": of_hardware}


@pytest.mark.parametrize("number", range(len(VECTORS)))
async def test_the_answer_is_nhcs(number: int, ask: Callable[..., Awaitable[NhcOutcome]]) -> None:
    vector = VECTORS[number]
    recorded = RECORDED[vector["fixture"]](vector["fixture"])

    outcome = await ask(vector["check"], *vector["args"], recorded=recorded, strict=True)

    assert (outcome.rc, outcome.message) == (vector["rc_master"], vector["message"] or ""), vector
