"""The work of the command line, a file a command; `mtl_course.__main__` parses."""
