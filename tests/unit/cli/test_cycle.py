# SPDX-License-Identifier: Apache-2.0
"""`refloat cycle plan`: the agent's answer, for people and for programs."""

import json
from typing import Any

from daemons import Daemon, Refloat

PLAN = {
    "node": "n1",
    "recipe": "reboot",
    "trigger": "reboot",
    "waits": ["job 4711 of alice is RUNNING on the node"],
    "steps": [
        {"number": 1, "step": "unmount", "does": ["a: umount /a", "b: umount /b"], "limits": "600 s, 5 attempts"},
        {"number": 2, "step": "reboot", "does": ["systemctl reboot"], "limits": "900 s, 5 attempts"},
    ],
}


async def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    return {**PLAN, "recipe": asked["recipe"]}


def test_a_plan_says_what_it_waits_for_and_then_each_step(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("cycle", "plan", "--socket", daemon({"plan": _answer}).path)

    assert ended.status == 0
    assert ended.out.splitlines() == [
        "n1: recipe reboot, asked for by reason=reboot",
        "",
        "waits for  job 4711 of alice is RUNNING on the node",
        "",
        " 1 unmount  a: umount /a",
        "            b: umount /b",
        "            (600 s, 5 attempts)",
        " 2 reboot   systemctl reboot",
        "            (900 s, 5 attempts)",
    ]


def test_the_recipe_that_is_named_is_asked_for(refloat: Refloat, daemon: Daemon) -> None:
    ended = refloat("cycle", "plan", "--recipe", "firmware", "--json", "--socket", daemon({"plan": _answer}).path)

    assert json.loads(ended.out)["recipe"] == "firmware"
