# SPDX-License-Identifier: Apache-2.0
"""The settings of an operator's command line: how it reaches the broker, and so the coordinator, from another host."""

from pathlib import Path
from typing import Final

from pydantic import Field

from refloat_service import settings
from refloat_service.mqtt_settings import ClusterName, MqttSettings
from refloat_service.settings import Settings

ENV_PREFIX: Final = "REFLOAT_OPERATOR"


class OperatorSettings(Settings):
    """The file that `refloat --broker` names."""

    cluster: ClusterName = Field(
        "cluster", description="the cluster's name in MQTT topics; the same as the coordinator's"
    )
    mqtt: MqttSettings = Field(default_factory=lambda: MqttSettings.model_validate({}), description="the MQTT broker")


def load(path: Path) -> OperatorSettings:
    """Read the file, and the environment over it.

    Raises:
        Misconfigured: one line for each problem.
    """
    return settings.load(OperatorSettings, path, env_prefix=ENV_PREFIX)
