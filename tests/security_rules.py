"""What no file of the repository may hold: rules that look at Python by its syntax tree, at all else by its text.

A finding is (line, name of the rule, what was found). Names are followed through imports, so that
`from torch import load as read; read(f)` is `torch.load`.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

Finding = tuple[int, str, str]

# Modules that run code from a file as they read it. `from pickle import UnpicklingError` names only an error.
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "joblib", "shelve", "jsonpickle", "pandas"}
YAML = {"safe_load", "safe_dump", "YAMLError", "scan", "AliasToken"}
SHELLS = re.compile(
    r"os\.(system|popen|exec\w*|spawn\w*|posix_spawnp?)|subprocess\.(getoutput|getstatusoutput)|pty\.spawn"
    r"|asyncio\.create_subprocess_shell|get_ipython\(\)\.(system|getoutput|run_cell_magic)"
)
CODE = {"eval", "exec", "compile", "__import__", "runpy.run_path", "runpy.run_module"}
HTML = re.compile(
    r"(IPython\.(core\.)?display|IPython\.core\.display)\.(HTML|Javascript|IFrame|SVG)|ipywidgets\.(HTML|HTMLMath)"
    r"|.*\.(_repr_html_|_repr_javascript_)"
)
FETCH = re.compile(
    r"urllib\.request\.\w+|requests\.\w+|httpx\.\w+|aiohttp\.\w+|http\.client\.HTTPS?Connection|socket\.create_connection"
    r"|ftplib\.\w+|torch\.hub\.(load|download_url_to_file|load_state_dict_from_url)"
    r"|torchvision\.datasets\.utils\.download\w*|xmlrpc\.client\.\w+"
)
NEEDS_WEIGHTS_ONLY = {"load", "load_state_dict_from_url", "get_state_dict"}


class _Names(ast.NodeVisitor):
    """What each name that an import brings stands for."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def visit_Import(self, node: ast.Import) -> None:
        for one in node.names:
            self.known[one.asname or one.name.partition(".")[0]] = (
                one.name if one.asname else one.name.partition(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for one in node.names:
            self.known[one.asname or one.name] = f"{node.module or ''}.{one.name}"

    def of(self, node: ast.AST) -> str:
        """The full name of `torch.load`, or "" of what is no name."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.of(node.value)}.{node.attr}"
        if isinstance(node, ast.Call):
            return f"{self.of(node.func)}()"
        return ""


def python(source: str) -> Iterator[Finding]:
    """The findings in a Python file."""
    tree, names = ast.parse(source), _Names()
    names.visit(tree)
    parameters = {id(node) for function in ast.walk(tree) for node in _parameters_in(function)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if id(node) in parameters:
            continue
        for rule, found in (*_imports(node), *_references(node, names), *_calls(node, names), *_texts(node)):
            yield line, rule, found


def _parameters_in(function: ast.AST) -> Iterator[ast.AST]:
    """Where a function uses a parameter of its own, such as `compile`: that is not Python's."""
    if isinstance(function, ast.FunctionDef):
        own = {one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
        yield from (node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id in own)


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    modules = []
    if isinstance(node, ast.Import):
        modules = [one.name for one in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        modules = [f"{node.module}.{one.name}" for one in node.names]
    for name in modules:
        if name.partition(".")[0] in PICKLES and name != "pickle.UnpicklingError":
            yield "pickle", f"import {name}"


def _references(node: ast.AST, names: _Names) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.FunctionDef) and node.name in ("_repr_html_", "_repr_javascript_"):
        yield "raw html", node.name
    if not isinstance(node, ast.Name | ast.Attribute):
        return
    name = names.of(node).removeprefix("builtins.")
    if name in CODE:
        yield "code from text", name
    if SHELLS.fullmatch(name):
        yield "shell", name
    if HTML.fullmatch(name):
        yield "raw html", name
    if FETCH.fullmatch(name):
        yield "fetch", name
    if name.startswith("yaml.") and name.split(".")[1].removesuffix("()") not in YAML:
        yield "yaml", name
    if re.fullmatch(
        r"torch\.(serialization\.)?add_safe_globals|.*\.read_pickle|torch\.jit\.load|torch\.package\..*", name
    ):
        yield "pickle", name


def _calls(node: ast.AST, names: _Names) -> Iterator[tuple[str, str]]:
    if not isinstance(node, ast.Call):
        return
    name, given = names.of(node.func), {one.arg: one.value for one in node.keywords}
    is_true = isinstance(given.get("weights_only"), ast.Constant) and given["weights_only"].value is True
    head, _, last = name.rpartition(".")
    if "weights_only" in given and not is_true:
        yield "pickle", f"{name}(weights_only=...)"
    if last in NEEDS_WEIGHTS_ONLY and (head.startswith("torch") or last != "load") and not is_true:
        yield "pickle", f"{name} without weights_only=True"
    if "allow_pickle" in given and ast.unparse(given["allow_pickle"]) != "False":
        yield "pickle", f"{name}(allow_pickle=...)"
    if "shell" in given and ast.unparse(given["shell"]) != "False":
        yield "shell", f"{name}(shell=...)"
    if head.startswith("torchvision.models") and "weights" in given and ast.unparse(given["weights"]) != "None":
        yield "pickle", f"{name}(weights=...), which unpickles"
    if name == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
        yield from [("code from text", ast.unparse(node))] * (node.args[1].value in CODE | {"system", "popen"})


def _texts(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value == "text/html":
            yield "raw html", "text/html"
        if re.match(r"(https?|ftp)://\S+$", node.value) and "://127.0.0.1" not in node.value:
            yield "address", node.value


SERVER = {
    "open server": re.compile(
        r"0\.0\.0\.0|allow_origin|disable_check_xsrf|allow_remote_access|allow_unauthenticated_access\W+True"
        r"|(?i:\b[\w.]*(token|password)\b[\"']?\s*[=:]\s*(''|\"\"))|(?i:--[\w.]*(token|password)=(?=\s|$|[\"'\\]))"
    )
}
SCRIPT = {
    "html from text": re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|parseHTMLUnsafe|document\s*\.\s*write|srcdoc|DOMParser"
        r"|createContextualFragment"
    ),
    "code from text": re.compile(
        r"\beval\b|\bnew\s+Function\b|(?<![\w.])Function\s*\(|set(Timeout|Interval)\s*\(\s*[\"'`]|javascript:"
        r"|\.\s*constructor\s*\(|\bimport\s*\(\s*(?!address\))|[\"'`]on\w+[\"'`]\s*[,:]"
    ),
    "fetch": re.compile(
        r"\bfetch\b|XMLHttpRequest|WebSocket|EventSource|sendBeacon|RTCPeerConnection|importScripts|\bnew\s+Worker\b"
        r"|https?\s*:|[\"'`]//|@import|url\s*\(|location\s*(\.|=)|window\s*\.\s*open|postMessage"
    ),
}
PAGE = {
    "active html": re.compile(
        r"<\s*(script|iframe|object|embed|form|base|meta|link)\b|\bon(?!ce\b|ly\b)[a-z]{4,}\s*=\s*[\"']|javascript:|srcdoc"
        r"|<\s*img[^>]*\bsrc\s*=\s*[\"']?\s*(https?:)?//",
        re.IGNORECASE,
    )
}
SVG = "http://www.w3.org/2000/svg"  # a name, which nothing fetches


def text(content: str, rules: dict[str, re.Pattern]) -> Iterator[Finding]:
    """The findings of some rules in a text."""
    for rule, pattern in rules.items():
        for found in pattern.finditer(content):
            yield content.count("\n", 0, found.start()) + 1, rule, found[0]


def javascript(content: str) -> Iterator[Finding]:
    """The findings in a JavaScript, style or HTML file; what is said in comments counts too."""
    yield from text(content.replace(SVG, "svg"), SCRIPT)


def notebook(content: str) -> Iterator[Finding]:
    """The findings in a notebook; a line is the number of the cell."""
    for number, cell in enumerate(json.loads(content)["cells"], start=1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            found = [*text(source, PAGE), *fenced(source)]
        elif cell["cell_type"] == "code":
            if re.search(r"^\s*[!%?]|\?$", source, re.MULTILINE):  # else it is Python already, and this is slow
                source = TransformerManager().transform_cell(source)
            found = [*python(source), *text(source, SERVER)]
            found += [one for output in cell["outputs"] for one in _output(output)]
        yield from ((number, rule, what) for _, rule, what in found)


def _output(output: dict) -> Iterator[Finding]:
    """A stored output: HTML only as our viewers write it, no script, no address."""
    from mtl_course.widgets.base import SLIDE

    data = output.get("data", {})
    for kind in data:
        if kind in ("application/javascript", "image/svg+xml"):
            yield 0, "active html", kind
    page = re.sub(r"data:image/png;base64,[\w+/=]+", "", "".join(data.get("text/html", "")))
    if page and not page.startswith('<figure class="mtl-fallback">'):
        yield 0, "raw html", page[:60]
    yield from text(page.replace(f'oninput="{SLIDE}"', ""), PAGE)
    yield from text("".join(data.get("text/markdown", "")), PAGE)


def fenced(content: str) -> Iterator[Finding]:
    """The findings in the blocks of code of a Markdown text."""
    for block in re.finditer(r"^```(\w*)\n(.*?)^```", content, flags=re.DOTALL | re.MULTILINE):
        if block[1] in ("python", "py"):
            yield from python(block[2])
        if block[1] in ("js", "javascript", "html"):
            yield from javascript(block[2])


def findings(path: Path) -> list[Finding]:
    """All findings in a file, by its name."""
    content = path.read_text(encoding="utf-8")
    found: list[Finding] = []
    if path.suffix == ".py":
        found += python(content)
    elif path.suffix in (".js", ".css", ".html"):
        found += javascript(content)
    elif path.suffix == ".ipynb":
        found += notebook(content)
    elif path.suffix == ".md":
        found += [*fenced(content), *text(re.sub(r"```.*?```|`[^`\n]*`", "", content, flags=re.DOTALL), PAGE)]
    if path.suffix != ".ipynb":
        found += text(content, SERVER)
    return found
