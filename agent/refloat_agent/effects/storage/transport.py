# SPDX-License-Identifier: Apache-2.0
"""By which transport a filesystem reaches its servers, as far as the mount table tells. Pure."""

import re
from typing import Final

from refloat_checks.proc import Mount

_PROTOCOL: Final = "proto="
# A NID is ADDRESS@TYPE, with a number behind the type when there are several LNets of it: 10.0.0.1@o2ib1 (lnetctl(8)).
_LNET: Final = re.compile(r"@(o2ib|[a-z]+)\d*")


def of_mount(mount: Mount) -> frozenset[str]:
    """NFS tells it in its options (``proto=rdma6``, where 6 is IPv6: nfs(5)), Lustre in its NIDs; others do not."""
    if mount.fstype.startswith("nfs"):
        return frozenset(
            option.removeprefix(_PROTOCOL).removesuffix("6") for option in mount.options if option.startswith(_PROTOCOL)
        )
    return of_nids(mount.source) if mount.fstype == "lustre" else frozenset()


def of_nids(text: str) -> frozenset[str]:
    """The LNet types of all NIDs in a text, without their numbers."""
    return frozenset(_LNET.findall(text))
