# SPDX-License-Identifier: Apache-2.0
"""Operators over MQTT: what they ask is answered as on the control socket; what they want changed, Slurm must allow.

The broker says who asks, by the certificate that its access list ties the topic to. That is enough for looking. Before
anything is changed Slurm is asked, at that moment, whether this user is one of its operators or administrators, and no
answer is a no: a message by itself changes nothing. Why a repeat cannot act twice stands in `tickets`.

The subscription is one of which the broker keeps nothing while we are away, only the coordinator that leads has it, and
whoever gets no answer asks again: so what cannot be dealt with now is dropped, and counted.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Literal, TypeAlias

import structlog
from pydantic_core import to_json

from refloat_contract import operators
from refloat_contract.errors import RefloatError, Refused, Transient
from refloat_contract.messages import MAX_PARTS, OperatorRequest, encode
from refloat_contract.topics import Topics
from refloat_coordinator.clock import Clock
from refloat_coordinator.operators import operations
from refloat_coordinator.operators.tickets import Tickets
from refloat_service import callers, envelopes
from refloat_service.callers import Caller
from refloat_service.control import Handler, handler_of
from refloat_service.mqtt import Publication
from refloat_slurm.gateway import AdminLevel

log = structlog.get_logger(__name__)

Rights: TypeAlias = Literal["no", "look", "act"]

_AT_ONCE: Final = 4
_WAITING: Final = 32
_PER_S: Final = 5.0
"""So many requests of one operator are dealt with in a second, in the long run,"""
_BURST: Final = 20
"""and so many at once."""
_NAMES: Final = 1000


class Operators:
    """Takes requests in, and answers them in its works. ``rights`` is what the settings let them do."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        admin_level: Callable[[str], Awaitable[AdminLevel]],
        publish: Callable[[Publication], Awaitable[None]],
        topics: Topics,
        clock: Clock,
        rights: Rights,
    ) -> None:
        self.dropped = 0
        self._handlers = handlers
        self._admin_level = admin_level
        self._publish = publish
        self._topics = topics
        self._clock = clock
        self._rights = rights
        self._tickets = Tickets()
        self._allowances: dict[str, tuple[float, float]] = {}
        self._going: set[tuple[str, str]] = set()
        self._waiting: asyncio.Queue[OperatorRequest] = asyncio.Queue(_WAITING)

    def put(self, request: OperatorRequest) -> None:
        """Answer this soon; what is being answered is not begun again.

        Raises:
            BadMessage: its sender is no operator.
        """
        operators.user_of(request.operator)
        key = (request.operator, request.id)
        if key in self._going:
            return
        if self._waiting.full() or not self._allows(request.operator):
            self.dropped += 1
            return
        self._going.add(key)
        self._waiting.put_nowait(request)

    def _allows(self, operator: str) -> bool:
        """Whether the operator's allowance, which grows with time, is not used up."""
        now = self._clock.now()
        left, since = self._allowances.get(operator, (float(_BURST), now))
        left = min(_BURST, left + (now - since) * _PER_S)
        if len(self._allowances) >= _NAMES:  # a broker without an access list lets anybody make up names
            self._allowances.clear()
        self._allowances[operator] = max(0.0, left - 1), now
        return left >= 1

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What answers, until it is cancelled, by the names of the tasks."""
        return {f"operators {number}": self._answer_all() for number in range(_AT_ONCE)}

    async def _answer_all(self) -> None:
        while True:
            request = await self._waiting.get()
            try:
                await self._send(request, await self._answered(request))
            finally:
                self._going.discard((request.operator, request.id))

    async def _send(self, request: OperatorRequest, text: str) -> None:
        if len(text) > MAX_PARTS * operators.PART_CHARACTERS:
            text = _text(envelopes.of_error(Refused("the answer is too large for MQTT: ask for less at once")))
        answer = secrets.token_hex(8)
        try:
            for part in operators.parts(text, request=request.id, answer=answer):
                await self._publish(Publication(self._topics.answer(request.operator), encode(part)))
        except RefloatError as error:  # whoever still waits asks again
            log.debug("operator_not_answered", operator=request.operator, why=str(error))

    async def _answered(self, request: OperatorRequest) -> str:
        try:
            user = operators.user_of(request.operator)
            if operations.is_look(request.command):
                return await self._done(request, Caller(None, may_act=False, operator=user))
            return await self._changed(request, user)
        except RefloatError as error:
            return _text(envelopes.of_error(error))

    async def _done(self, request: OperatorRequest, caller: Caller) -> str:
        """Carry it out, as the control socket does."""
        callers.CALLER.set(caller)
        try:
            return _text(
                {"result": await _one(request.command, handler_of(self._handlers, request.command)(request.arguments))}
            )
        except RefloatError as error:
            return _text(envelopes.of_error(error))
        except Exception as error:  # a fault in one command must not end the daemon; the log has the traceback
            log.exception("operator_command_failed", command=request.command)
            return _text(envelopes.of_fault(request.command, error))

    async def _changed(self, request: OperatorRequest, user: str) -> str:
        """Carry out what changes something: once, if Slurm lets this user."""
        handler_of(self._handlers, request.command)
        if self._rights != "act":
            log.warning("operator_refused", command=request.command, operator=user, why="operators.over_mqtt")
            raise Refused(
                f"over MQTT operators may only look here: {request.command} is for the control socket on the"
                ' coordinator\'s host, unless its coordinator.toml says [operators] over_mqtt = "act"'
            )
        now = self._clock.now()
        if not request.ticket:
            return _text({"ticket": self._tickets.give(secrets.token_hex(16), request.operator, request.id, now)})
        known = self._tickets.use(request.ticket, request.operator, request.id, now)
        if known is not None:
            return known
        text = await self._allowed(request, user)
        self._tickets.keep(request.ticket, text, self._clock.now())
        return text

    async def _allowed(self, request: OperatorRequest, user: str) -> str:
        try:
            level = await self._level(user)
        except RefloatError as error:
            log.warning("operator_refused", command=request.command, operator=user, why=str(error))
            return _text(envelopes.of_error(error))
        log.info("operator_command", command=request.command, operator=user, admin_level=str(level))
        return await self._done(request, Caller(None, may_act=True, operator=user))

    async def _level(self, user: str) -> AdminLevel:
        """What Slurm says, now, that this user may do.

        Raises:
            Refused: not enough, or Slurm has nobody to ask.
            Transient: Slurm does not say.
        """
        try:
            level = await self._admin_level(user)
        except Refused as error:
            raise Refused(f"nothing was done: Slurm does not tell whether {user} may: {error}") from error
        except (RefloatError, ValueError) as error:
            raise Transient(f"nothing was done: Slurm did not tell whether {user} may: {error}") from error
        if level is AdminLevel.NONE:
            raise Refused(
                f"nothing was done: {user} is neither operator nor administrator in Slurm's accounting, as the"
                f" coordinator's own user sees it (sacctmgr modify user {user} set adminlevel=operator makes one)"
            )
        return level


def _one(command: str, answer: Awaitable[Any] | AsyncIterator[Any]) -> Awaitable[Any]:
    if isinstance(answer, AsyncIterator):
        raise Refused(f"{command} is answered on the control socket only: its answer has no end")
    return answer


def _text(answer: Mapping[str, Any]) -> str:
    return to_json(answer).decode()
