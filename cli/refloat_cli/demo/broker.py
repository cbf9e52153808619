# SPDX-License-Identifier: Apache-2.0
"""The demo's embedded broker: amqtt on a loopback port, open to everybody on this machine."""

import contextlib
from collections.abc import AsyncIterator, ItemsView, Iterator
from typing import Any

from amqtt.broker import Broker
from amqtt.session import Session

_Subscribers = list[tuple[Session, int]]


class Subscriptions(dict[str, _Subscribers]):
    """Topic filters and who subscribed them; a walk over it sees the filters of the moment when it began.

    amqtt 0.12 walks over its own while it waits for clients, and ends a session when another one subscribes meanwhile.
    """

    def __iter__(self) -> Iterator[str]:
        """Walk over a copy of the keys."""
        return iter(tuple(super().__iter__()))

    def items(self) -> ItemsView[str, _Subscribers]:  # type: ignore[override]  # of a copy, so no dict_items of this one
        """Walk over a copy."""
        return self.copy().items()


@contextlib.asynccontextmanager
async def broker(port: int) -> AsyncIterator[None]:
    """Serve this port of the loopback until the block ends."""
    config: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 0}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    running = Broker(config)
    running._subscriptions = Subscriptions()  # noqa: SLF001 - the only way in; the class says why
    await running.start()
    try:
        yield
    finally:
        await running.shutdown()
