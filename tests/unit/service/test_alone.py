# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from refloat_contract.errors import Misconfigured
from refloat_service.alone import alone


def test_the_second_is_refused_and_the_next_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "agent.lock"
    with alone(path), pytest.raises(Misconfigured, match="already running"), alone(path):
        pass

    with alone(path):
        assert path.exists()


def test_a_place_where_no_file_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Misconfigured, match="cannot make"), alone(tmp_path / "file" / "agent.lock"):
        pass
