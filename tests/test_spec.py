"""Names with options, as typed by a person."""

import functools

import pytest

from mtl_course.balancing import GRADIENT_RULES, LOSS_RULES, cagrad, make
from mtl_course.errors import CourseError
from mtl_course.spec import choose


def example(gramian, c: float = 0.5, count: int = 2, gate: str = "picture", generator=None):
    return gramian, c, count, gate


def bare(gramian):
    return gramian


KNOWN = {"example": example, "bare": bare, "cross-stitch": bare, "imtl_g": bare}


def test_a_name_alone_is_what_it_stands_for():
    assert choose("rule", "bare", KNOWN) == ("bare", bare)
    assert choose("rule", "bare:", KNOWN) == ("bare", bare)


def test_options_are_bound_in_the_type_of_their_defaults():
    name, made = choose("rule", "example:c=1, count=3,gate=pixel", KNOWN)
    assert name == "example" and isinstance(made, functools.partial)
    assert made.keywords == {"c": 1.0, "count": 3, "gate": "pixel"}
    assert type(made.keywords["c"]) is float and type(made.keywords["count"]) is int


@pytest.mark.parametrize("text", ["cross-stitch", "cross_stitch", "imtl_g", "imtl-g"])
def test_hyphens_and_underscores_mean_the_same(text):
    assert choose("model", text, KNOWN)[0].replace("-", "_") == text.replace("-", "_")


@pytest.mark.parametrize(
    "text, message",
    [
        ("exmple", "unknown rule 'exmple': did you mean 'example'"),
        ("", "unknown rule ''"),
        ("example:cc=1", "unknown option of example 'cc': did you mean 'c'"),
        ("example:c=high", "c is a float, and not 'high'"),
        ("example:count=1.5", "count is a int, and not '1.5'"),
        ("example:c", "c is a float, and not ''"),
        ("example:generator=3", "unknown option of example 'generator'"),
        ("bare:c=1", "'bare' takes no options"),
    ],
)
def test_mistakes_name_the_nearest(text, message):
    with pytest.raises(CourseError) as caught:
        choose("rule", text, KNOWN)
    assert message in str(caught.value)


def test_every_rule_is_made_by_its_name():
    for name in GRADIENT_RULES:
        assert make(name, 3) is GRADIENT_RULES[name] and make(name.replace("_", "-"), 3) is GRADIENT_RULES[name]
    for name, kind in LOSS_RULES.items():
        made = make(name, 3)
        assert made is kind if not isinstance(kind, type) else isinstance(made, kind) and made.count == 3


def test_options_reach_the_rules():
    assert make("cagrad:c=0.4", 2).keywords == {"c": 0.4} and make("cagrad:c=0.4", 2).func is cagrad
    assert make("dynamic_average:temperature=3", 2).temperature == 3.0
    assert make("famo:lr=0.1,decay=0", 2).decay == 0.0
    with pytest.raises(CourseError, match="did you mean 'pcgrad'"):
        make("pcgard", 2)
    with pytest.raises(CourseError, match="'nash' takes no options"):
        make("nash:c=1", 2)
