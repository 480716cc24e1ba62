"""What is saved comes back: any model, any names, any plain values, the same bits."""

import math

import pytest
import torch
from drawn import held, seeds
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mtl_course import models, tasks, training
from mtl_course.errors import CourseError
from mtl_course.models.sharing import ARCHITECTURES
from mtl_course.training.state import read_state, write_state

MAKERS = {"binary": tasks.foreground, "boundary": tasks.boundary, "depth": tasks.depth, "direction": tasks.normals}
OPTIONS = {"cross-stitch": ":own=0.7", "mixture": ":experts=2,gate=pixel", "soft": ":strength=0.1"}
words = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=12)
odd = st.sampled_from(
    ["wall paint", "'", '"', "\\", "a,b", "été", "猫", "{}", "[]", "null", "</script>", "__proto__", "%s", "0" * 64]
)
class_names = st.lists(st.one_of(words, odd), min_size=2, max_size=5, unique=True)
# The name of a task is part of the names of its weights and of files, so these are fewer.
task_names = st.one_of(st.sampled_from(["semantic", "depth", "my task", "深度", "été's", "a-b"]), words).filter(
    lambda name: not set(name) & set("./\\:") and name == name.strip()
)


@st.composite
def some_tasks(draw):
    made = {}
    for name in draw(st.lists(task_names, min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["classes", *MAKERS]))
        made[name] = tasks.semantic(draw(class_names), name) if kind == "classes" else MAKERS[kind](name)
    return made


def bits(model):
    return {name: (value.dtype, value.numpy().tobytes()) for name, value in model.state_dict().items()}


@held(25)
@given(some_tasks(), st.sampled_from(sorted(ARCHITECTURES)), st.lists(st.integers(1, 5), min_size=1, max_size=3), seeds,
       st.booleans(), st.booleans())  # fmt: skip
def test_a_checkpoint_gives_the_same_bits_names_and_answers(tmp_path, which, kind, channels, seed, bare, half):
    torch.manual_seed(seed)
    model = models.build(kind + ("" if bare else OPTIONS.get(kind, "")), "unet", which, channels=tuple(channels)).eval()
    with torch.no_grad():
        for value in model.state_dict().values():  # also what is never drawn, such as counts and running means
            value.copy_(torch.rand(value.shape) * 100)
    path = training.save(tmp_path / "模型 1.safetensors", model, which, half=half)
    again, known = training.load(path)
    same = {name: v.half().float() if half and v.is_floating_point() else v for name, v in model.state_dict().items()}
    model.load_state_dict(same)
    assert bits(again) == bits(model) and not again.training and again.recipe["model"] == model.recipe["model"]
    assert list(known) == list(which)
    for name, task in which.items():
        assert (known[name].name, known[name].kind, known[name].classes) == (name, task.kind, task.classes)
        assert (known[name].loss, known[name].channels, known[name].score) == (task.loss, task.channels, task.score)
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        ours, theirs = model(images), again(images)
    assert all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in which)
    twice = training.save(tmp_path / "again.safetensors", again, known, half=half)
    assert twice.read_bytes() == path.read_bytes(), "what was loaded is saved as the same bytes"


@held(60)
@given(st.lists(st.text(max_size=5), min_size=2, max_size=3), st.text(max_size=5))
@example(["a\n", "b"], "semantic")
@example(["a", "b"], "a.b")
@example(["a", "b"], "../b")
@example(["a", "b"], "")
@example(["a", "b"], "type")
@example(["a", "b"], "training")
@example(["a\ud800", "b"], "semantic")
def test_a_name_that_load_would_refuse_is_refused_before_training(tmp_path, names, name):
    """Else the training would be lost."""
    try:
        which = {name: tasks.semantic(names, name)}
        model = models.build("hard", "unet", which, channels=(2,))
    except CourseError as error:
        assert "choose others" in str(error)
        return
    again, known = training.load(training.save(tmp_path / "m.safetensors", model, which))
    assert list(known) == [name] and known[name].classes == tuple(names) and bits(again) == bits(model)


# What a state may hold: tensors and plain values. Keys of dicts are texts or whole numbers, as in an optimizer's state.
tensors = st.tuples(
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8]),
    st.lists(st.integers(0, 3), max_size=3),
).map(lambda drawn: (torch.rand(drawn[1]) * 9).to(drawn[0]))  # fmt: skip
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), tensors)
nested = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers()), inner, max_size=3),
    ),
    max_leaves=12,
)  # fmt: skip


def same(one, two):
    if type(one) is not type(two):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float):
        return math.isnan(one) and math.isnan(two) or (one == two and math.copysign(1, one) == math.copysign(1, two))
    return one == two


@held(40)
@given(st.dictionaries(st.text(), nested, max_size=4), st.dictionaries(st.text(), plain, min_size=1, max_size=3))
def test_a_state_reads_back_as_it_was(tmp_path, state, run):
    assume(all(isinstance(value, str | int) for value in run.values()))
    path = write_state(tmp_path / "state.pt", state | {"run": run})
    again = read_state(path, run)
    assert same(again, state | {"run": run})
    with pytest.raises(CourseError, match="another run"):
        read_state(path, run | {next(iter(run)): object()})


@held(60)
@given(st.integers(0, 2**31), seeds)
def test_one_byte_that_differs_is_noticed(tmp_path_factory, where, seed):
    """In a checkpoint and in a state: a damaged file is refused, it never gives other weights."""
    folder, which = tmp_path_factory.mktemp("byte"), {"depth": tasks.depth()}
    model = models.build("hard", "unet", which, channels=(2,))
    checkpoint = training.save(folder / "m.safetensors", model, which)
    state = write_state(folder / "state.pt", {"run": {"a": 1}, "w": torch.rand(3)})
    for path, read in ((checkpoint, training.load), (state, lambda path: read_state(path, {"a": 1}))):
        content = bytearray(path.read_bytes())
        content[where % len(content)] ^= 1 << seed % 8
        path.write_bytes(content)
        with pytest.raises(CourseError, match=path.name):
            read(path)
