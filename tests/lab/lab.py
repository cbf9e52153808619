#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The lab's command line: `lab.py up 3`, `lab.py exec n1 sinfo`, `lab.py down`; `lab.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from reflab.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
