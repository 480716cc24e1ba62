"""Lay out the pages of the site in one folder, in the tree of the checkout, so that their links still hold.

A link to a page stays; a link to a folder goes to the page that lists it; a file without a page comes along as a
download; a link to anything else becomes plain text. Notebooks keep their stored outputs. Files that did not change are
not written again, so that Sphinx reads only what is new.
"""

import io
import json
import os
import re
import shutil
from contextlib import redirect_stdout, suppress
from importlib import import_module
from importlib.metadata import files
from pathlib import Path, PurePosixPath
from types import ModuleType
from unittest.mock import patch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
CLAIMS = re.compile(r"(<!-- claims -->\n.*?<!-- /claims -->)", re.DOTALL)
CONFLICT = "README.md has no {} any more, of which the site makes a page: put it back or change tools/website/stage.py"
FOLDERS = {
    ".": "README.md",
    "notebooks": "index.md",
    "notebooks/exercises": "notebooks/exercises/index.md",
    "notebooks/solutions": "notebooks/solutions/index.md",
    "data": "data/README.md",
    "data/records": "data/records/README.md",
    "mtl_course": "reference/index.rst",
}
TITLES = {"README": "Set up and run", "data/README": "Data and weights", "benchmarks/RESULTS": "Measurements"}
DOWNLOADS = {"", ".json", ".py", ".cff", ".txt", ".toml", ".yml", ".yaml", ".csv"}
# The order is that of reading the package.
MODULES = {
    "formula": "The formula f(x, θ) = Σ αᵢ gᵢ(x, θᵢ)",
    "losses": "Task losses and Ω",
    "metrics": "Scores",
    "tasks": "Tasks",
    "datasets": "Data",
    "models": "Models, and ways of sharing",
    "balancing": "The weights α",
    "training": "Training and evaluation",
    "distributed": "Several processes",
    "records": "Records of long runs",
    "plotting": "Figures",
    "widgets": "Viewers",
    "exercises": "Checks of the exercises",
    "errors": "Errors",
}
INSIDE = {"exercises": "exercises.engine"}  # `exercises` itself offers only `check`


class SiteError(Exception):
    """What the site needs and did not find, in one sentence."""


class Stage:
    """A folder of pages for Sphinx.

    Args:
        folder: gets the pages; what was there and is no page any more is removed.
        root: the checkout.
    """

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder, self.root = folder, root
        self.written: set[str] = set()
        self.pages = set(sources(root)) | {"index.md", "claims.md", *FOLDERS.values()}

    def make(self) -> bool:
        """Write all pages.

        Returns:
            Whether files of a former layout had to go, so that Sphinx should start anew.
        """
        for name in sources(self.root):
            text = (self.root / name).read_text(encoding="utf-8")
            if name.endswith(".ipynb"):
                self.write(name, self.notebook(name, text))
            else:
                self.write(name, self.markdown(name, shown(name, text)))
        readme = (self.root / "README.md").read_text(encoding="utf-8")
        self.write("claims.md", self.markdown("claims.md", claims_page(readme)))
        self.write("index.md", self.markdown("index.md", home(readme)) + self.contents())
        for kind in ("exercises", "solutions"):
            self.write(f"notebooks/{kind}/index.md", listing(kind, self.root))
        self.reference()
        self.assets()
        return self.clean()

    def notebook(self, name: str, text: str) -> str:
        """A notebook whose links lead to pages; widget views, which need a kernel, become one line."""
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                cell["source"] = self.markdown(name, source)
            for output in cell.get("outputs", ()):
                if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                    output["data"] = {"text/plain": "A viewer, live in a running Jupyter."}
        if "/solutions/" in name:
            first = notebook["cells"][0]
            first["source"] = first["source"].replace("# Exercises", "# Solutions", 1)
        return json.dumps(notebook, ensure_ascii=False, indent=1)

    def markdown(self, name: str, text: str) -> str:
        """Markdown with the links of the site; code stays as it is."""
        parts = CODE.split(text)  # text, code, text, code, ...
        whole = "\0".join(parts[::2])  # a link's text may hold code
        changed = LINK.sub(lambda match: self.link(name, *match.groups()), whole).split("\0")
        return "".join(a + b for a, b in zip(changed, [*parts[1::2], ""], strict=True))

    def link(self, page: str, text: str, target: str) -> str:
        """One link, as the site has it."""
        if re.match(r"[a-z]+:", target):
            return f"[{text}]({target})"
        path, _, anchor = target.partition("#")
        anchor = f"#{slug(anchor)}" if anchor else ""
        if not path:
            return f"[{text}]({anchor})"
        place = relative(PurePosixPath(page).parent, path)
        goal = FOLDERS.get(place, place)
        if goal in self.pages:
            return f"[{text}]({up(page)}{goal}{anchor})"
        if goal and (self.root / goal).is_file() and Path(goal).suffix in DOWNLOADS:
            self.copy(self.root / goal, goal)
            return f"[{text}]({up(page)}{goal})"
        return text

    def contents(self) -> str:
        """The menu: one toctree for each part."""
        notebooks = [name for name in sources(self.root) if name.endswith(".ipynb")]
        lessons = [name for name in notebooks if name.count("/") == 1]
        root = [name for name in sources(self.root) if "/" not in name]
        start = ["README.md", *(name for name in root if name.startswith("README."))]
        rest = [name for name in root if name not in start]
        others = [name for name in sources(self.root) if "/" in name and name not in notebooks]
        teaching = [name for name in others if name.startswith("notebooks/")]
        parts = {
            "Start": list(dict.fromkeys(start)),
            "Lessons": lessons,
            "Exercises": ["notebooks/exercises/index.md", "notebooks/solutions/index.md"],
            "Results": ["claims.md", *(name for name in others if name not in teaching)],
            "Teaching": teaching,
            "Package": ["reference/index.rst", "reference/command_line.rst"],
            "Project": rest,
        }
        return "".join(toctree(caption, names) for caption, names in parts.items())

    def reference(self) -> None:
        """A page for each public module, and one of the command line's help."""
        for name, title in MODULES.items():
            title = f"{name}: {title}"
            self.write(f"reference/{name}.rst", module_page(name, title))
        names = "\n".join(f"   {name}" for name in MODULES)
        text = "What the package offers, in the order in which it is best read. Names that start with ``_`` may change."
        self.write(
            "reference/index.rst", f"Reference\n=========\n\n{text}\n\n.. toctree::\n   :maxdepth: 1\n\n{names}\n"
        )
        self.write("reference/command_line.rst", command_line())

    def assets(self) -> None:
        """Pictures, style and script, and MathJax from its package."""
        self.copy(HERE / "conf.py", "conf.py")
        for path in sorted((HERE / "static").iterdir()):
            self.copy(path, f"_static/{path.name}")
        for path in [*self.root.glob("*.png"), *(self.root / "notebooks").glob("*.png")]:
            self.copy(path, str(path.relative_to(self.root)))
        for name, path in mathjax().items():
            self.copy(path, f"_static/mathjax/{name}")

    def write(self, name: str, text: str) -> None:
        """Write a file, unless it holds this text already."""
        self.written.add(name)
        path = self.folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def copy(self, source: Path, name: str) -> None:
        """Copy a file, unless it is there already."""
        self.written.add(name)
        path = self.folder / name
        if not path.is_file() or path.read_bytes() != source.read_bytes():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)

    def clean(self) -> bool:
        """Remove what this layout does not have; whether there was such a file."""
        old = [p for p in self.folder.rglob("*") if p.is_file() and str(p.relative_to(self.folder)) not in self.written]
        for path in old:
            path.unlink()
        return bool(old)


def sources(root: Path) -> list[str]:
    """The texts and notebooks of the checkout that get a page, as paths from the root."""
    patterns = ["*.md", "notebooks/*.md", "notebooks/*.ipynb", "data/*.md", "data/records/*.md", "benchmarks/*.md"]
    patterns += ["notebooks/exercises/*.ipynb", "notebooks/solutions/*.ipynb"]
    return [path.relative_to(root).as_posix() for pattern in patterns for path in sorted(root.glob(pattern))]


def relative(folder: PurePosixPath, path: str) -> str:
    """The place of a link's target from the root; empty when it lies outside."""
    parts: list[str] = []
    for part in (folder / path).parts:
        if part == ".." and not parts:
            return ""
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts) or "."


def up(page: str) -> str:
    """The way from a page to the root."""
    return "../" * page.count("/")


def slug(anchor: str) -> str:
    """The anchor of a heading as the site and GitHub make it, of JupyterLab's."""
    return re.sub(r"[^\w\- ]", "", anchor.lower()).replace(" ", "-")


def shown(name: str, text: str) -> str:
    """A text without what has a page of its own."""
    if name.startswith("README."):
        return CLAIMS.sub("The table has [a page of its own](claims.md).", text)
    return text


def section(readme: str, heading: str) -> str:
    """A section of the README without its heading."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SiteError(CONFLICT.format(f"section '## {heading}'"))
    return found[1]


def claims_page(readme: str) -> str:
    """The page of the claims: the README's text on them, and the table."""
    if not CLAIMS.search(readme):
        raise SiteError(CONFLICT.format("table between <!-- claims --> and <!-- /claims -->"))
    return "# What the course found\n\n" + section(readme, "What the course found")


def home(readme: str) -> str:
    """The first page: index.md of this folder with the lessons and the verdicts of the README."""
    lessons = [line for line in section(readme, "Lessons").splitlines() if line.startswith("|")]
    claims = re.findall(r"^\| \*\*(C\d+): (.+?)\*\* \| \*\*(\w+)\*\* \|", readme, re.MULTILINE)
    rows = [f"| {number} | {claim} | **{verdict}** |" for number, claim, verdict in claims]
    verdicts = ["| No. | Claim of the theory | Verdict |", "| --- | --- | --- |", *rows]
    text = (HERE / "index.md").read_text(encoding="utf-8")
    text = re.sub(r"PICTURE (\S+)", lambda match: picture(readme, match[1]), text)
    return text.replace("LESSONS", "\n".join(lessons)).replace("VERDICTS", "\n".join(verdicts))


def picture(readme: str, path: str) -> str:
    """A picture of the README with its sentence."""
    found = re.search(rf"!\[[^\]]+\]\({re.escape(path)}\)", readme)
    if found is None:
        raise SiteError(CONFLICT.format(f"picture {path}"))
    return found[0]


def toctree(caption: str, names: list[str]) -> str:
    """A part of the menu, in MyST's words."""
    pages = [str(PurePosixPath(name).with_suffix("")) for name in names]
    entries = "\n".join(f"{TITLES[page]} <{page}>" if page in TITLES else page for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def listing(kind: str, root: Path) -> str:
    """The page that lists the exercises or the solutions."""
    names = [path.stem for path in sorted((root / "notebooks" / kind).glob("*.ipynb"))]
    text = {
        "exercises": "# Exercises\n\nYou write a function; `check.NAME(your_function)` tries it on drawn shapes and "
        "edge cases and names the likely mistake. Here they are to be read; to solve them, open them in JupyterLab.",
        "solutions": "# Solutions\n\nEach is one way of several, with the reason for it. Try the exercise first: "
        "the check tells more than the solution does.",
    }[kind]
    return f"{text}\n\n```{{toctree}}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"


def module_page(name: str, title: str) -> str:
    """A page of autodoc for one module: what it is for, a list of what it offers, and each of that."""
    lines = [title, "=" * 2 * len(title), "", f".. automodule:: mtl_course.{name}", ""]
    module = import_module(f"mtl_course.{INSIDE.get(name, name)}")
    lines += [f".. currentmodule:: {module.__name__}", ""]
    names = offers(module)
    lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {part}" for part in names), ""]
    for part in names:
        is_class = isinstance(getattr(module, part), type)
        lines += [f".. auto{'class' if is_class else 'function'}:: {part}", *["   :members:"] * is_class, ""]
    return "\n".join(lines)


def offers(module: ModuleType) -> list[str]:
    """The public functions and classes of a module."""
    if hasattr(module, "__all__"):
        return [key for key in module.__all__ if callable(getattr(module, key))]
    ours = module.__name__ + ("." if hasattr(module, "__path__") else "")
    return [
        key
        for key, thing in vars(module).items()
        if callable(thing) and key[0] != "_" and getattr(thing, "__module__", "").startswith(ours)
    ]


def command_line() -> str:
    """The page of the command line: what `--help` prints."""
    from mtl_course.__main__ import COMMANDS

    text = "Command line\n============\n\n``python -m mtl_course COMMAND``: the options, as ``--help`` prints them.\n"
    for name in COMMANDS:
        shown = "\n".join(f"   {line}".rstrip() for line in help_of(name).splitlines())
        text += f"\n{name}\n{'-' * len(name)}\n\n.. code-block:: text\n\n{shown}\n"
    return text


def help_of(command: str) -> str:
    """What `python -m mtl_course COMMAND --help` prints, 90 characters wide."""
    from mtl_course.__main__ import parse

    printed = io.StringIO()
    with patch.dict(os.environ, COLUMNS="90"), redirect_stdout(printed), suppress(SystemExit):
        parse([command, "--help"])
    return printed.getvalue()


def mathjax() -> dict[str, Path]:
    """The files of MathJax that a page needs, by their place on the site, from the package sphinx-mathjax-offline."""
    wanted = re.compile(r".*/static/mathjax/(tex-chtml\.js|output/chtml/fonts/woff-v2/.*\.woff)")
    matches = [(wanted.match(str(path)), path) for path in files("sphinx-mathjax-offline")]
    found = {match[1]: Path(path.locate()) for match, path in matches if match}
    if "tex-chtml.js" not in found:
        raise SiteError("sphinx-mathjax-offline holds no tex-chtml.js: install it again with `make site`")
    return found
