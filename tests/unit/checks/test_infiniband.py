# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest

from refloat_checks.facts import Facts
from refloat_checks.infiniband import InfinibandLimits, Port, judge, look
from refloat_contract.words import Status


def port(name: str, state: str = "ACTIVE", rate: float | None = 200.0, width: int | None = 4, downed: int = 0) -> Port:
    phys_state = "LinkUp" if state == "ACTIVE" else "Polling"
    return Port(name, state, phys_state, rate, width, {"link_downed": downed})


PORTS = (port("mlx5_0:1", downed=3), port("mlx5_1:1", rate=100.0, width=2), port("mlx5_2:1", "DOWN", 2.5))


@pytest.mark.parametrize(
    ("ports", "limits", "status", "message"),
    [
        (
            PORTS,
            {},
            Status.FAILED,
            "2 InfiniBand ports are active (should be 3) (mlx5_2:1 DOWN Polling)",
        ),
        (PORTS, {"min_active": 2}, Status.OK, "2 of 3 InfiniBand ports are active"),
        (PORTS, {"port": "mlx5_[01]:*"}, Status.OK, "2 of 2 InfiniBand ports are active"),
        (PORTS, {"port": "mlx4*"}, Status.FAILED, "there is no InfiniBand port mlx4*"),
        ((), {}, Status.FAILED, "there is no InfiniBand port *"),
        (
            PORTS,
            {"min_active": 2, "min_rate_gbps": 200},
            Status.FAILED,
            "mlx5_1:1 runs at 100 Gb/s (limit 200 Gb/s)",
        ),
        (PORTS, {"min_active": 1, "rate_gbps": 200}, Status.OK, "1 of 3 InfiniBand ports are active"),
        (
            PORTS[:1],
            {"min_active": 1, "rate_gbps": 400},
            Status.FAILED,
            "0 InfiniBand ports are active (should be 1) (mlx5_0:1 ACTIVE LinkUp 200 Gb/s)",
        ),
        (PORTS, {"min_active": 2, "min_width": 4}, Status.FAILED, "mlx5_1:1 runs on 2 lanes (limit 4)"),
        (PORTS, {"min_active": 1, "max_counters": {"link_downed": 3}}, Status.OK, "2 of 3 InfiniBand ports are active"),
        (
            PORTS,
            {"min_active": 1, "max_counters": {"link_downed": 2}},
            Status.FAILED,
            "mlx5_0:1 counts 3 link_downed (limit 2)",
        ),
        (PORTS[:1], {"max_counters": {"xyz": 0}}, Status.UNKNOWN, "mlx5_0:1 has no counter xyz"),
        ([port("a:1", rate=None)], {"min_rate_gbps": 1}, Status.UNKNOWN, "a:1 does not tell its rate"),
        (
            [Port("a:1", "ACTIVE", "Disabled", None, None, {})],
            {},
            Status.FAILED,
            "0 InfiniBand ports are active (should be 1) (a:1 ACTIVE Disabled)",
        ),
    ],
)
def test_ports_are_judged(ports: tuple[Port, ...], limits: dict[str, Any], status: Status, message: str) -> None:
    finding = judge(ports, InfinibandLimits(**limits), "i")

    assert (finding.status, finding.message) == (status, message)


async def test_the_given_sys_is_read(facts: Facts, add_sys: Callable[[dict[str, str]], None]) -> None:
    place = "class/infiniband/mlx5_0/ports/1"
    add_sys(
        {
            f"{place}/state": "4: ACTIVE\n",
            f"{place}/phys_state": "5: LinkUp\n",
            f"{place}/rate": "400 Gb/sec (4X NDR)\n",
            f"{place}/counters/link_downed": "7\n",
            f"{place}/hw_counters/out_of_sequence": "9\n",
        }
    )
    counters = {"link_downed": 10, "out_of_sequence": 10}

    finding = await look(facts, InfinibandLimits(min_rate_gbps=400, min_width=4, max_counters=counters), "i")

    assert finding.status is Status.OK
    assert finding.measures == {
        "active": 1,
        "ports": 1,
        "least_rate_gbps": 400,
        "link_downed": 7,
        "out_of_sequence": 9,
    }


async def test_the_interface_for_tools_must_be_there_if_asked_for(
    facts: Facts, add_sys: Callable[[dict[str, str]], None]
) -> None:
    place = "class/infiniband/mlx5_0/ports/1"
    add_sys(
        {f"{place}/state": "4: ACTIVE\n", f"{place}/phys_state": "5: LinkUp\n", f"{place}/rate": "200 Gb/sec (4X)\n"}
    )

    finding = await look(facts, InfinibandLimits(umad=True), "i")

    assert (finding.status, "ib_umad" in finding.message) == (Status.FAILED, True)
    assert (await look(facts, InfinibandLimits(), "i")).status is Status.OK
