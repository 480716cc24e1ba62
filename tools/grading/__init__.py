"""Grade homework: a submission runs in one process, its tests in another. `tools/homework.py` is the command."""
