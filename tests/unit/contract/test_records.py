# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from refloat_contract.records import record, replace


@record
class Point:
    x: int
    y: int = 2

    @property
    def total(self) -> int:
        return self.x + self.y


@record
class Other:
    x: int
    y: int = 2


def test_fields_are_given_in_order_or_by_name_and_have_their_defaults() -> None:
    assert Point(1) == Point(x=1, y=2) == Point(1, y=2)
    assert Point(1, 3).total == 4
    assert repr(Point(1)) == "Point(x=1, y=2)"


def test_records_are_equal_by_kind_and_value_and_can_be_keys() -> None:
    other: object = Other(1)

    assert Point(1) != other
    assert Point(1) != Point(2)
    assert len({Point(1), Point(1, 2), Other(1)}) == 2


def test_a_record_can_be_matched_and_replaced_but_not_changed() -> None:
    point: Any = Point(1)

    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert replace(point, y=5) == Point(1, 5)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 3
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert point == Point(1)


@pytest.mark.parametrize(
    ("values", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 2}), ((), {"y": 1}), ((), {"z": 1})]
)
def test_fields_that_are_missing_unknown_or_given_twice_are_refused(
    values: tuple[int, ...], named: dict[str, int]
) -> None:
    make: Any = Point

    with pytest.raises(TypeError, match="Point takes x, y"):
        make(*values, **named)
