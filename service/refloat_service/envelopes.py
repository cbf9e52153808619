# SPDX-License-Identifier: Apache-2.0
"""What a daemon answers with, whatever way it was asked: a result, or an error that is raised again there; pure."""

import json
from collections.abc import Mapping
from typing import Any, Final

from refloat_contract import errors
from refloat_contract.errors import BadMessage, RefloatError

_KINDS: Final[Mapping[str, type[RefloatError]]] = {
    "transient": errors.Transient,
    "refused": errors.Refused,
    "unknown_node": errors.UnknownNode,
    "bad_message": errors.BadMessage,
    "misconfigured": errors.Misconfigured,
    "corrupt": errors.Corrupt,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def of_error(error: RefloatError) -> dict[str, Any]:
    """An error as it is answered."""
    kind = next(_NAMES[kind] for kind in type(error).__mro__ if kind in _NAMES)
    return {"error": {"kind": kind, "message": str(error)}}


def of_fault(command: str, fault: Exception) -> dict[str, Any]:
    """A fault of the daemon's own as it is answered."""
    said = f"{command} failed inside the daemon ({type(fault).__name__}); its log has the traceback"
    return {"error": {"kind": "internal", "message": said}}


def decoded(text: str | bytes, said_by: str = "") -> dict[str, Any]:
    """An answer as it came; ``said_by`` begins the sentence about one that is none.

    Raises:
        BadMessage: it is not a JSON object.
    """
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise BadMessage(f"{said_by}the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise BadMessage(f"{said_by}the answer is not a JSON object")
    return answer


def without_error(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, where it is none.

    Raises:
        RefloatError: the one that was answered.
    """
    match answer.get("error"):
        case None:
            return answer
        case {"kind": str(kind), "message": str(message)}:
            raise _KINDS.get(kind, RefloatError)(message)
        case other:
            raise BadMessage(f"an error that cannot be read: {other!r}")
