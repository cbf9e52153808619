# SPDX-License-Identifier: Apache-2.0
"""A real mosquitto for a file of tests."""

from collections.abc import Iterator

import mosquitto
import pytest


@pytest.fixture(scope="session")
def mosquitto_argv() -> list[str]:
    """How mosquitto is started here."""
    argv = mosquitto.command()
    if argv is None:
        pytest.skip("there is no mosquitto here, and no image of the lab that has one")
    return argv


@pytest.fixture(scope="module")
def site(mosquitto_argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[mosquitto.Site]:
    """The shipped configuration, in use."""
    with mosquitto.a_site(tmp_path_factory.mktemp("site"), mosquitto_argv) as site:
        yield site
