# SPDX-License-Identifier: Apache-2.0
"""The catalogue of holds knows every sentence that the code can hold a node with: read from the code itself."""

import ast
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import refloat_agent
import refloat_coordinator
from refloat_agent import holds
from refloat_agent.recipes import PHASES
from refloat_contract.held import Hold, find
from refloat_coordinator.waves import holds as wave_holds

Function = ast.FunctionDef | ast.AsyncFunctionDef
Functions = dict[str, tuple[Function, ...]]
_HOLDING = frozenset({"hold", "give", "give_up", "write_hold"})
_FROM_OUTSIDE = frozenset({"sentence", "outcome.error", "cycle.hold"})
"""Arguments handed on from another such call, and the words of an effect that gave up, which are looked at below."""


def _functions(folder: Path, *names: str) -> Functions:
    """All functions of these modules by name."""
    found: Functions = {}
    for path in [folder / name for name in names] or sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                found[node.name] = (*found.get(node.name, ()), node)
    return found


FOLDER = Path(str(refloat_agent.__file__)).parent
DECIDING = ("machine.py", "moves.py", "evidence.py", "in_service.py", "remedies.py")
AGENT = _functions(FOLDER, *DECIDING)
STORAGE = _functions(FOLDER, "effects/mounts.py")
COORDINATOR = _functions(Path(str(refloat_coordinator.__file__)).parent)


def _calls(functions: Functions, names: frozenset[str]) -> Iterator[tuple[Function, ast.Call]]:
    for function in itertools.chain.from_iterable(functions.values()):
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _name(node.func) in names:
                yield function, node


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _sentences(node: ast.expr, inside: Function, functions: Functions) -> Iterator[str]:
    """Samples of what an expression can be, with `x` for what is known only as it runs."""
    if isinstance(node, ast.Constant):
        yield from () if node.value is None else (str(node.value),)
    elif isinstance(node, ast.JoinedStr):
        parts = [
            _samples(part.value, inside, functions)
            if isinstance(part, ast.FormattedValue)
            else (ast.literal_eval(part),)
            for part in node.values
        ]
        yield from ("".join(map(str, chosen)) for chosen in itertools.product(*parts))
    elif isinstance(node, ast.BoolOp):
        yield from itertools.chain.from_iterable(_sentences(value, inside, functions) for value in node.values)
    elif isinstance(node, ast.IfExp):
        yield from itertools.chain(_sentences(node.body, inside, functions), _sentences(node.orelse, inside, functions))
    elif isinstance(node, ast.Await):
        yield from _sentences(node.value, inside, functions)
    elif isinstance(node, ast.Call):
        called = functions.get(_name(node.func), ())
        yield from itertools.chain.from_iterable(_returned(function, functions) for function in called)
        if not called:
            yield "x"
    elif isinstance(node, ast.Name):
        yield from _assigned(node, inside, functions)
    elif ast.unparse(node) not in {"report.why", "last.why", "hold.sentence"}:  # the agent's own words
        raise AssertionError(f"{ast.unparse(node)}: not understood in {inside.name}")


def _samples(node: ast.expr, inside: Function, functions: Functions) -> Sequence[str]:
    """What stands between the braces, as far as it is said nearby."""
    if ast.unparse(node) == "cycle.phase":
        return tuple(PHASES.values())
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
        return tuple(_sentences(node, inside, functions))
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Status":
        return (node.attr,)
    if isinstance(node, ast.Name):
        values = _values(node, inside)
        if any(isinstance(value, ast.IfExp) for value in values) or (not values and node.id == "why"):
            return tuple(_assigned(node, inside, functions))
    return ("x",)


def _returned(function: Function, functions: Functions) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from _sentences(node.value, function, functions)


def _values(name: ast.Name, inside: Function) -> list[ast.expr]:
    """What a function last gave a name of its own, read from the top; nothing where it is an argument."""
    found = [
        node.value
        for node in ast.walk(inside)
        if (
            (isinstance(node, ast.Assign) and any(_is(target, name.id) for target in node.targets))
            or (isinstance(node, ast.NamedExpr) and _is(node.target, name.id))
        )
        and node.lineno <= name.lineno
    ]
    return sorted(found, key=lambda value: value.lineno)[-1:]


def _assigned(name: ast.Name, inside: Function, functions: Functions) -> Iterator[str]:
    values = _values(name, inside)
    for value in values:
        yield from _sentences(value, inside, functions)
    if not values:
        arguments = [argument.arg for argument in inside.args.args if argument.arg != "self"]
        position = arguments.index(name.id)
        for caller, call in _calls(functions, frozenset({inside.name})):
            if position < len(call.args):  # else another function of that name is called
                yield from _sentences(call.args[position], caller, functions)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _held_by_the_agent() -> Iterator[str]:
    for inside, call in _calls(AGENT, _HOLDING):
        argument = call.args[0] if _name(call.func) == "write_hold" else call.args[3]
        if ast.unparse(argument) not in _FROM_OUTSIDE:
            yield from _sentences(argument, inside, AGENT)


def _given_up_by_effects() -> Iterator[str]:
    for inside, call in _calls(STORAGE, frozenset({"GivenUp"})):
        yield from _sentences(call.args[0], inside, STORAGE)


def _held_by_a_wave() -> Iterator[str]:
    for inside, call in _calls(COORDINATOR, frozenset({"entering"})):
        if ast.unparse(call.args[0]) == "Turn.HELD":
            yield from _sentences(call.args[2], inside, COORDINATOR)


def test_nothing_else_holds_a_node_than_what_is_read_here() -> None:
    named = {
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*.py")
        if any(_calls(_functions(FOLDER, str(path)), _HOLDING | {"GivenUp"}))
    }

    assert named <= {*DECIDING, "effects/mounts.py"}
    assert len(named) > 3


def test_every_sentence_of_the_agent_is_in_the_catalogue() -> None:
    sentences = set(_held_by_the_agent())

    assert len(sentences) > 30
    assert sorted(sentence for sentence in sentences if find(holds.ALL, sentence) is None) == []


def test_every_sentence_of_storage_that_is_given_up_is_in_the_catalogue() -> None:
    sentences = {text for text in _given_up_by_effects() if text}

    assert len(sentences) > 5
    assert sorted(sentence for sentence in sentences if find(holds.ALL, sentence) is None) == []


def test_every_sentence_of_a_wave_is_in_the_catalogue() -> None:
    sentences = set(_held_by_a_wave())

    assert len(sentences) >= 5
    assert sorted(sentence for sentence in sentences if find(wave_holds.ALL, sentence) is None) == []


@pytest.mark.parametrize("catalogue", [holds.ALL, wave_holds.ALL], ids=["agent", "wave"])
def test_every_entry_is_found_by_its_example_and_has_an_id_of_its_own(catalogue: Sequence[Hold]) -> None:
    assert [find(catalogue, entry.example) for entry in catalogue] == list(catalogue)
    assert len({entry.id for entry in (*holds.ALL, *wave_holds.ALL)}) == len(holds.ALL) + len(wave_holds.ALL)


def test_no_entry_is_of_sentences_that_nothing_says() -> None:
    said = {*_held_by_the_agent(), *_given_up_by_effects()}

    assert [entry.id for entry in holds.ALL if entry not in {find(holds.ALL, sentence) for sentence in said}] == []


def test_a_sentence_that_somebody_wrote_by_hand_is_in_no_catalogue() -> None:
    assert find(holds.ALL, "alice is at this node with a screwdriver") is None
