# SPDX-License-Identifier: Apache-2.0
"""Fuzz one target with atheris, guided by the coverage of what it runs: atheris_run.py TARGET [libFuzzer options].

Without a target: all of them, SECONDS each. What makes one fail is left in build/fuzz/.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["refloat_agent", "refloat_checks", "refloat_contract", "refloat_coordinator"]):
    from targets import TARGETS

FOUND: Final = Path("build/fuzz")


def main() -> int:
    """Fuzz until told otherwise; the status of the first target that failed."""
    by_name = {target.name: target for target in TARGETS}
    if len(sys.argv) > 1 and sys.argv[1] in by_name:
        atheris.Setup([sys.argv[0], *sys.argv[2:]], by_name[sys.argv[1]])
        atheris.Fuzz()
        return 0
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    return max(_fuzzed(name, by_name[name].examples, seconds) for name in by_name)


def _fuzzed(name: str, examples: tuple[bytes, ...], seconds: str) -> int:
    corpus = FOUND / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(examples):
        (corpus / f"example-{number}").write_bytes(example)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=8192"]
    argv = [sys.executable, __file__, name, *limits, f"-artifact_prefix={FOUND}/{name}-", str(corpus)]
    status = subprocess.run(argv, check=False).returncode
    print(f"{name}: {'nothing found' if status == 0 else 'FAILED: see ' + str(FOUND)}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
