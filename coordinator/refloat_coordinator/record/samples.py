# SPDX-License-Identifier: Apache-2.0
"""Samples: the gauges of the fleet, written to InfluxDB now and then; one that does not arrive is not written again."""

from collections.abc import Callable, Sequence

import structlog

from refloat_contract.errors import Refused, Transient
from refloat_coordinator.clock import Clock
from refloat_coordinator.metrics.gauges import Gauge
from refloat_coordinator.record.influx import Writer, sampled

log = structlog.get_logger(__name__)


class Samples:
    """Writes what ``read`` gives, once in ``period_s``."""

    def __init__(
        self,
        read: Callable[[], Sequence[Gauge]],
        writer: Writer,
        clock: Clock,
        *,
        measurement: str,
        cluster: str,
        period_s: float,
    ) -> None:
        self._read = read
        self._writer = writer
        self._clock = clock
        self._measurement = measurement
        self._cluster = cluster
        self._period_s = period_s

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.write()
            await self._clock.sleep(self._period_s - self._clock.now() % self._period_s)

    async def write(self) -> None:
        """Write the gauges of this period; its beginning is their time, so that twice in a period is once."""
        gauges = self._read()
        at_ns = int(self._clock.now() // self._period_s * self._period_s) * 10**9
        if not gauges:
            return
        try:
            await self._writer.write(sampled(gauges, self._measurement, self._cluster, at_ns))
        except (Transient, Refused) as error:
            log.debug("samples_not_written", why=str(error))  # the outbox says it, too
