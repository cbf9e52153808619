# SPDX-License-Identifier: Apache-2.0
"""The lab as a fixture: one cluster for the whole session, taken down at its end unless LAB_KEEP=1."""

import os
from collections.abc import Generator, Iterator

import pytest
from reflab import app, host
from reflab.cluster import Lab
from reflab.errors import LabError
from reflab.places import CONTROLLER

FIXTURE_NODES = 3
JOURNAL_LINES = "25"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three nodes of LAB_RELEASE; with LAB_BARE=1 without refloat."""
    why = host.obstacle()
    if why:
        pytest.skip(why)
    host.prepare()
    project = None if os.environ.get("LAB_BARE") == "1" else app.App()
    cluster = Lab(nodes=FIXTURE_NODES, project=project, start_project=False).up()
    yield cluster
    if os.environ.get("LAB_KEEP") != "1":
        cluster.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of every journal beside a failed lab test."""
    report = yield
    labs = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Lab)]
    for lab in labs if report.failed else ():
        for name in (CONTROLLER, *lab.names()):
            try:
                text = lab.journal(name, "--lines", JOURNAL_LINES)
            except LabError as error:
                text = str(error)
            report.sections.append((f"journal of {name}", text))
    return report
