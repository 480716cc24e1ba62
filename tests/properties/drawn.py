"""How these tests draw: the same examples in every run, and more of them for `make test-long`."""

import os

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

MANY = int(os.environ.get("MTL_COURSE_EXAMPLES", "1"))  # times as many
seeds = st.integers(0, 2**32)
sides = st.sampled_from([1, 2, 3, 5, 8, 17, 31, 64, 90, 150, 254])  # of a picture, in pixels


def held(examples):
    """The settings of a test: so many examples, no limit for one, which would depend on the machine."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples * MANY, deadline=None, derandomize=True, suppress_health_check=quiet)


def generator(seed):
    return torch.Generator().manual_seed(seed)
