# SPDX-License-Identifier: Apache-2.0
"""Remedies: the cycle that a site names for what a check finds, and how often in a row one is begun. Pure.

It goes through the reason, like every cycle: the reason of the health drain becomes the trigger, once the node is empty
by its flags. The trigger and the progress carry the count, so that a node that forgets all at a reboot can count on.
"""

from dataclasses import replace

from refloat_agent.observation import Observation
from refloat_agent.state import Policy, Remedied, State
from refloat_contract import reasons
from refloat_slurm import states
from refloat_slurm.gateway import NodeView


def reason(state: State, seen: Observation, policy: Policy, view: NodeView, cycle: str) -> str:
    """What the reason of this node, which a check has drained, is to become; empty: it stays.

    That is the trigger of the check's remedy or, past the limit, a hold; ``cycle`` names the latter.
    """
    check = seen.health.failing[0].check
    word = policy.dialect.word_for_recipe(policy.remedies.get(check, ""))
    if word is None or not states.is_drained(view) or states.is_foreign_operation(view):
        return ""
    done = len(_recent(state, seen, policy, check))
    if done < policy.loop_limit:
        return reasons.write_remedy(word, cause=check, loop=done + 1)
    cycles = "1 cycle" if done == 1 else f"{done} cycles"
    return reasons.write_hold(
        f"{check} failed again after {cycles}; needs a human: refloat cycle release {policy.node}", cycle
    )


def counted(state: State, seen: Observation, policy: Policy, check: str, loop: int) -> State:
    """The state that knows of so many cycles, the latest now; counting the same one twice changes nothing."""
    if not check or not loop:
        return state
    known = _recent(state, seen, policy, check)
    at = (*known, *(seen.wall_ns / 1e9 for _ in range(min(loop, policy.loop_limit) - len(known))))
    others = tuple(each for each in state.remedied if each.check != check)
    return replace(state, remedied=(*others, Remedied(check, at)))


def _recent(state: State, seen: Observation, policy: Policy, check: str) -> tuple[float, ...]:
    now = seen.wall_ns / 1e9
    found = (at for each in state.remedied if each.check == check for at in each.at)
    return tuple(at for at in found if abs(now - at) < policy.loop_window_s)
