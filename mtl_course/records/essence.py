"""What of an experiment's text makes its results: all but the words about them and how they are summed up."""

import ast
import re
from collections.abc import Iterator

# What may change in an experiment without making its results those of another one.
FREE = {"claim", "question", "protocol", "lesson", "seeds", "summarise", "verify", "tolerance"}


def essence(source: str) -> str:
    """The text of an experiment without what is FREE, `summarise`, and the functions after it that only it uses.

    Raises:
        SyntaxError: if it is no Python.
    """
    tree, rest = ast.parse(source), source
    for part, before, after in [*_free_fields(tree), *_free_functions(tree)]:
        text = re.escape(ast.get_source_segment(source, part))
        rest = re.sub(before + text + after, "", rest, count=1)
    return rest


def _free_fields(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """What is FREE, with patterns of what goes along: records older than `lesson` lack its whole line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Experiment"):
            for keyword in node.keywords:
                if keyword.arg in FREE:
                    yield keyword, *((r"\s*", ",?") if keyword.arg == "lesson" else ("", ""))


def _free_functions(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """`summarise`, and the functions after it that nothing else uses, with the blank lines after these."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    first = next((i for i, function in enumerate(functions) if function.name == "summarise"), len(functions))
    free = functions[first:]
    while True:
        others = [node for node in tree.body if node not in free]
        used = {part.id for node in others for part in ast.walk(node) if isinstance(part, ast.Name)} - {"summarise"}
        if not any(function.name in used for function in free):
            break
        free = [function for function in free if function.name not in used]
    for function in free:
        yield function, "", "" if function.name == "summarise" else r"\s*"
