# SPDX-License-Identifier: Apache-2.0
"""Where the `refloat` command begins. What a prolog and a boot ask is answered without loading the rest."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["check"] and "--profile" in sys.argv:
        from refloat_cli import profile

        if (status := profile.quick(sys.argv[2:])) is not None:
            sys.exit(status)
    if sys.argv[1:2] == ["gate"]:
        from refloat_cli import gate

        if (status := gate.quick(sys.argv[2:])) is not None:
            sys.exit(status)
    from refloat_cli.main import main as whole

    whole()
