# SPDX-License-Identifier: Apache-2.0
"""One node in its wave, as it is kept on disk; pure."""

from pydantic import BaseModel, ConfigDict

from refloat_contract.words import Turn


class Member(BaseModel):
    """One node in its wave. All times are the coordinator's; 0 means that it is not so now.

    ``confirmed``: Slurm or the agent has shown the drain that this wave set; before, it is only the intent.
    ``boot_time`` and ``slurmd_start_time`` are Slurm's at the intent: when they change, the cycle has begun, whatever
    else got lost. ``away_since`` counts the deadline of a node that reboots or is silent, ``unready_since`` that of one
    that cannot be marked yet, ``back_since`` that of one which is in service again without a word from its agent.
    ``overdue_since``: its jobs have not ended within the wave's deadline, and what the operator asked for is done.
    ``spent`` are cycles from before a retry, which say nothing any more.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    node: str
    turn: Turn = Turn.WAITING
    since: float = 0.0
    why: str = ""
    confirmed: bool = False
    boot_time: int = 0
    slurmd_start_time: int = 0
    away_since: float = 0.0
    unready_since: float = 0.0
    back_since: float = 0.0
    overdue_since: float = 0.0
    lost: bool = False
    attempt: int = 1
    spent: tuple[str, ...] = ()
    left_out: bool = False

    def entering(self, turn: Turn, now: float, why: str = "") -> "Member":
        """This member with another turn."""
        return self.model_copy(
            update={
                "turn": turn,
                "since": now,
                "why": why,
                "away_since": 0.0,
                "unready_since": 0.0,
                "back_since": 0.0,
                "overdue_since": 0.0,
            }
        )

    def but(self, **changes: object) -> "Member":
        """This member with other values."""
        return self.model_copy(update=changes)
