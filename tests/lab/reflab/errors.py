# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the lab, by who must act.

LabError
├── Unavailable   this host cannot run the lab: install or change the host
├── Failed        a command that the lab ran ended badly: read its output
└── TimedOut      something did not happen in time: read the node's journal
"""


class LabError(Exception):
    """Anything the lab reports in one sentence."""


class Unavailable(LabError):
    """The host lacks what the lab needs."""


class Failed(LabError):
    """A command ended with a code other than 0."""


class TimedOut(LabError):
    """A wait or a command passed its deadline."""
