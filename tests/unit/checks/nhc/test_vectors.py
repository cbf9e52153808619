# SPDX-License-Identifier: Apache-2.0
"""Every recorded answer of NHC's functions, asked again."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat_checks.nhc import slurm_marking, units
from refloat_checks.nhc.conf import check_lines
from refloat_checks.nhc.match import matches

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "nhc_vectors.json").read_text())["vectors"]
# Answers that refloat deliberately gives otherwise: none so far. Each entry is a vector, beside it the reason.
OTHERWISE: tuple[dict[str, Any], ...] = ()


def number(parse: Callable[..., int], *arguments: Any) -> int | None:
    """Give None where NHC's parser leaves no number behind."""
    try:
        return parse(*arguments)
    except units.BadUnit:
        return None


def spoken(arguments: list[str] | None) -> str | None:
    """Give scontrol's arguments as the recording stub wrote them down."""
    return None if arguments is None else " ".join(arguments)


ASK: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "match": lambda v: (matches(v["pattern"], v["target"]), v["match"]),
    "parse_size": lambda v: (number(units.parse_size, v["in"], v.get("mult", 1024)), v["out_kb"]),
    "unparse_size": lambda v: (units.unparse_size(v["in_kb"]), v["out"]),
    "parse_count": lambda v: (number(units.parse_count, v["in"]), v["out"]),
    "unparse_count": lambda v: (units.unparse_count(v["in"]), v["out"]),
    "parse_timespec": lambda v: (units.parse_timespec(v["in"]), v["out_s"]),
    "parse_cputime": lambda v: (units.parse_cputime(v["in"]), v["out_s"]),
    "conf_lines": lambda v: (check_lines(v["text"], v["host"]), v["checks"]),
    "mark_offline": lambda v: (
        spoken(slurm_marking.offline(v["state"], v["reason"], v["new_reason"] or "", node="n1")),
        v["scontrol"],
    ),
    "mark_online": lambda v: (spoken(slurm_marking.online(v["state"], v["reason"], node="n1")), v["scontrol"]),
}


@pytest.mark.parametrize("kind", ASK)
def test_the_answers_are_nhcs(kind: str) -> None:
    wrong = []
    for vector in VECTORS:
        if vector["kind"] == kind and vector not in OTHERWISE:
            got, wanted = ASK[kind](vector)
            if got != wanted:
                wrong.append((vector, got))

    assert wrong == []


def test_every_recorded_kind_is_asked() -> None:
    kinds = Counter(vector["kind"] for vector in VECTORS)

    assert set(kinds) == set(ASK)
    assert kinds["match"] >= 118
