# SPDX-License-Identifier: Apache-2.0
"""Names: which text may be handed to Slurm as the name of one node, job or user."""

import re

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def plain(name: str) -> str:
    """Return ``name`` if it names one node and nothing else.

    Raises:
        ValueError: it is a hostlist (``n[1-3]``, ``n1,n2``), an option (``-a``), empty, or ``ALL``, which
            `scontrol update nodename=` takes for every node of the cluster.
    """
    if _PLAIN.fullmatch(name) is None or name.upper() == "ALL":
        raise ValueError(f"not the name of one node: {name!r}")
    return name


_JOB = re.compile(r"[0-9]{1,19}(?:[_+][0-9]{1,19})?")


def plain_job(job: str) -> str:
    """Return ``job`` if it is the id of one job: ``7``, ``7_3`` of an array, ``7+1`` of a heterogeneous job.

    Raises:
        ValueError: it is not.
    """
    if _JOB.fullmatch(job) is None:
        raise ValueError(f"not the id of one job: {job!r}")
    return job


_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")


def plain_user(user: str) -> str:
    """Return ``user`` if it names one user and nothing else.

    Raises:
        ValueError: it is a list (``a,b``), an option, or empty, which sacctmgr takes for every user.
    """
    if _USER.fullmatch(user) is None:
        raise ValueError(f"not the name of one user: {user!r}")
    return user
