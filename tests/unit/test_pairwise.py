"""The cases of a test whose parameters are chosen pairwise."""

from __future__ import annotations

from itertools import product

from tests.support.pairwise import pairs_of, pairwise

PRODUCT = [dict(zip("abcd", values, strict=True)) for values in product(range(3), range(3), range(3), "xy")]


def test_few_cases_hold_each_pair_of_values() -> None:
    chosen = [PRODUCT[number] for number in pairwise(PRODUCT)]
    assert set().union(*map(pairs_of, chosen)) == set().union(*map(pairs_of, PRODUCT))
    assert len(chosen) < len(PRODUCT) / 3


def test_what_has_no_pairs_is_kept() -> None:
    assert pairwise([{"a": 1}, {"a": 2}, {"a": 1}]) == [0, 1]
    assert pairwise([{}]) == [0]
    assert pairwise(PRODUCT[:2]) == [0, 1]


def test_the_first_cases_are_among_them() -> None:
    assert {5, 50} <= {*pairwise(PRODUCT, [PRODUCT[50], PRODUCT[5]])}
