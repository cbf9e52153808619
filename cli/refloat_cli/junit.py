# SPDX-License-Identifier: Apache-2.0
"""Results as JUnit XML, as CI systems read it: FAILED is a failure, UNKNOWN an error."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from refloat_contract.words import Status

_NOT_XML: Final = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_ELEMENTS: Final = {Status.FAILED: "failure", Status.UNKNOWN: "error"}


def document(results: Sequence[Mapping[str, Any]], suite: str = "refloat check") -> str:
    """Write a document with one test case for each result."""
    counts = {status: sum(result["status"] == status for result in results) for status in _ELEMENTS}
    seconds = sum(result["duration_s"] for result in results)
    head = (
        f'<testsuite name={_attribute(suite)} tests="{len(results)}" failures="{counts[Status.FAILED]}"'
        f' errors="{counts[Status.UNKNOWN]}" time="{seconds:.3f}">'
    )
    cases = "".join(_case(result) for result in results)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n{head}\n{cases}</testsuite>\n</testsuites>\n'


def _case(result: Mapping[str, Any]) -> str:
    name, message = _attribute(result["check"]), _attribute(result["message"])
    case = f'<testcase classname="refloat.check" name={name} time="{result["duration_s"]:.3f}"'
    element = _ELEMENTS.get(Status(result["status"]))
    return f"{case}/>\n" if element is None else f"{case}><{element} message={message}/></testcase>\n"


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))
