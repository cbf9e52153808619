# SPDX-License-Identifier: Apache-2.0
import json
import sys
from typing import Any

import pytest

from refloat_service import quick_json

VALUES: list[Any] = [
    {"a": [1, -2.5, 1e300, True, False, None, {}], "b": {"c": 'é\n"\\/ \u2028 \U0001f600'}, "": []},
    "text",
    3,
    [],
]
BROKEN = [b"", b"{", b'{"a" 1}', b"[1,]", b"1 2", b"nul", b'"\n"', b"\xff", b'"open']


@pytest.mark.parametrize("value", VALUES)
def test_it_reads_what_json_writes(value: Any) -> None:
    assert quick_json.loads(json.dumps(value).encode() + b"\n") == value
    assert quick_json.loads(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_document_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        quick_json.loads(data)


@pytest.mark.parametrize("text", ["", 'a"b\\', "é\n\0", "\U0001f600", "\udc80"])
def test_it_writes_plain_values_as_json_does(text: str) -> None:
    values: dict[str, str | float | None] = {
        text: text,
        "number": 1.5,
        "whole": 3,
        "nothing": None,
        "yes": True,
        "no": False,
    }

    assert quick_json.flat(values) == json.dumps(values)


@pytest.mark.parametrize("data", BROKEN)
def test_without_the_c_functions_json_itself_does_it(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_json", None)

    assert quick_json.loads(json.dumps(VALUES).encode()) == VALUES
    assert quick_json.flat({"a": 'a"é'}) == json.dumps({"a": 'a"é'})
    with pytest.raises(ValueError, match=r"."):
        quick_json.loads(data)
