"""The experiments of data/records: run, verified, listed and shown, and the table of claims that they give.

`python -m mtl_course records` hands over to `experiments.command`. This works only in a checkout, where the programs
in data/records are, so it is no part of the package; what reads records, `mtl_course.records`, is.
"""
