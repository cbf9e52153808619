# SPDX-License-Identifier: Apache-2.0
"""The settings of the MQTT broker, and what may not stand together in them."""

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from refloat_contract import topics
from refloat_service.settings import Settings

PLAIN_PORT: Final = 1883
TLS_PORT: Final = 8883


def _level(text: str) -> str:
    if not topics.is_level(text):
        raise ValueError("use letters, digits, '.', '_' and '-': the name is part of MQTT topics")
    return text


ClusterName: TypeAlias = Annotated[str, AfterValidator(_level)]
"""The name of a cluster, as it stands in topics."""


class MqttSettings(Settings):
    """The MQTT broker."""

    host: str = Field("localhost", min_length=1, description="name or address of the broker")
    port: int = Field(PLAIN_PORT, ge=1, le=65535, description="its port; usually 1883, and 8883 with TLS")
    username: str = Field("", description="name to log in with; empty: none")
    password_file: Path | None = Field(
        None,
        description="file that holds the password, which nobody else can read; a path may begin with "
        "`$CREDENTIALS_DIRECTORY/` for what systemd's `LoadCredential=` gives",
    )
    tls: bool = Field(
        default=False,
        description="encrypt, and verify the broker's certificate; plain text to another machine only where "
        "`tls = false` is written down",
    )
    ca_file: Path | None = Field(None, description="certificates to trust (PEM); none: those of the system")
    cert_file: Path | None = Field(None, description="certificate to log in with (PEM)")
    key_file: Path | None = Field(None, description="its key (PEM), which nobody else can read; see `password_file`")
    keepalive_s: int = Field(30, ge=5, le=3600, description="after 1.5 times this silence the broker says we are gone")
    protocol: Literal["3.1.1", "5"] = Field("3.1.1", description="version of MQTT to speak")
    reconnect_min_s: float = Field(1.0, gt=0, description="shortest wait before connecting anew")
    reconnect_max_s: float = Field(60.0, gt=0, description="longest wait; it doubles from one try to the next")

    @model_validator(mode="after")
    def _fits_together(self) -> "MqttSettings":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: set both or none")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file, cert_file and key_file need tls = true")
        if self.password_file and not self.username:
            raise ValueError("password_file needs a username")
        if self.reconnect_min_s > self.reconnect_max_s:
            raise ValueError("reconnect_min_s is larger than reconnect_max_s")
        return self

    @model_validator(mode="after")
    def _is_plain_text_only_where_asked_for(self) -> "MqttSettings":
        if not self.tls and "tls" not in self.model_fields_set and not is_this_machine(self.host):
            raise ValueError(
                f"{self.host} is another machine: set tls = true, with ca_file, cert_file and key_file "
                "(docs/broker.md), or write tls = false where whoever is on that network may read and forge messages"
            )
        return self

    @property
    def is_exposed(self) -> bool:
        """Whether what is said to the broker can be read and forged on a network."""
        return not self.tls and not is_this_machine(self.host)


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine by its name or address alone; nothing is looked up. Pure."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761: these never leave the machine
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
