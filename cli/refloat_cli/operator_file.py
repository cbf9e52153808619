# SPDX-License-Identifier: Apache-2.0
"""The settings of an operator's command line: how it reaches the broker, and so the coordinator, from another host."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from refloat_contract import topics
from refloat_service import settings
from refloat_service.mqtt_settings import MqttSettings
from refloat_service.settings import Settings

ENV_PREFIX: Final = "REFLOAT_OPERATOR"


def _cluster(text: str) -> str:
    if not topics.is_level(text):
        raise ValueError("use letters, digits, '.', '_' and '-': the name is part of MQTT topics")
    return text


class OperatorSettings(Settings):
    """The file that `refloat --broker` names."""

    cluster: Annotated[str, AfterValidator(_cluster)] = Field(
        "cluster", description="the cluster's name in MQTT topics; the same as the coordinator's"
    )
    mqtt: MqttSettings = Field(default_factory=lambda: MqttSettings.model_validate({}), description="the MQTT broker")


def load(path: Path) -> OperatorSettings:
    """Read the file, and the environment over it.

    Raises:
        Misconfigured: one line for each problem.
    """
    return settings.load(OperatorSettings, path, env_prefix=ENV_PREFIX)
