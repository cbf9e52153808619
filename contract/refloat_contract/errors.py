# SPDX-License-Identifier: Apache-2.0
"""The errors of refloat, sorted by who must act.

RefloatError
 +- Transient      nobody yet: the outside did not answer; try again later
 +- Refused        the asker: Slurm, the broker or the operating system said no, and will say it again
 |   +- GivenUp        as long as the configuration allows was waited: a human must look
 |   +- UnknownNode    Slurm knows no node of that name
 |   +- BadMessage     what arrived over MQTT or a socket cannot be read
 +- Misconfigured  the administrator: a file or an option is wrong (exit status 2; a daemon exits with 78)
 +- Corrupt        a human: what we saved ourselves cannot be read back; stop, never guess
"""


class RefloatError(Exception):
    """Root of the tree; its text is one sentence: what, where, what to do."""


class Transient(RefloatError):
    """The outside world did not answer in time, or not in a way that can be understood."""


class Refused(RefloatError):
    """The outside world said no; trying the same again is useless."""


class GivenUp(Refused):
    """What was waited for has not come within its deadline, and nothing more may be tried without a human."""


class UnknownNode(Refused):
    """Slurm has no node of this name."""


class BadMessage(Refused):
    """A message or request that cannot be read: malformed, or of another version."""


class Misconfigured(RefloatError):
    """A configuration file, environment variable or command-line option is wrong."""


class Corrupt(RefloatError):
    """State that refloat itself wrote cannot be read back."""
