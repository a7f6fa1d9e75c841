import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vagram_ray.checkpoint.tree import join_tree, split_tree

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
TREES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@given(TREES)
def test_plain_values_come_back_through_json(tree):
    plain, tensors = split_tree(tree)
    assert not tensors
    assert join_tree(json.loads(json.dumps(plain, allow_nan=False)), {}) == tree


def test_tensors_come_back_with_their_type_and_place():
    tree = {"a": [torch.ones(2, dtype=torch.float64), {"b": torch.tensor(3)}], "c": torch.zeros(0, 2, dtype=torch.bool)}
    plain, tensors = split_tree(tree)
    assert set(tensors) == {"a/0", "a/1/b", "c"}
    joined = join_tree(json.loads(json.dumps(plain)), tensors)
    assert joined["a"][0].dtype == torch.float64 and joined["a"][1]["b"].item() == 3 and joined["c"].shape == (0, 2)


def test_numbers_that_json_has_no_word_for_come_back():
    joined = join_tree(split_tree([math.nan, math.inf, -math.inf])[0], {})
    assert math.isnan(joined[0]) and joined[1:] == [math.inf, -math.inf]


def test_other_objects_are_refused_by_their_place():
    with pytest.raises(TypeError, match=r"a/0 is a object"):
        split_tree({"a": [object()]})
    with pytest.raises(TypeError, match=r"keys that are no plain names"):
        split_tree({"a": {1: 2}})
