# SPDX-License-Identifier: Apache-2.0

import pytest

from refloat_slurm.names import plain


@pytest.mark.parametrize("name", ["n1", "cn-0042", "gpu_7", "node1.cluster.example.org", "1a"])
def test_a_hostname_is_plain(name: str) -> None:
    assert plain(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "--all", "n[1-3]", "n1,n2", "ALL", "all", "n 1", "n1\n", "n1=x", "n1;reboot", "ñ1", "n" * 256]
)
def test_whatever_else_slurm_could_take_it_for_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of one node"):
        plain(name)
