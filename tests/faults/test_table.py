"""README.md has no row that no test makes."""

from faults.conftest import sections, written_words


def test_every_row_has_its_test():
    rows = [name for rows in sections().values() for name in rows]
    assert rows and len(rows) == len(set(rows))
    assert not set(rows) - written_words()
