"""How Sphinx makes the site: nothing from another server, no code run, every picture with its sentence."""

import re

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer

import mtl_course

project = "Multi-task learning for image segmentation"
release = mtl_course.__version__
author = "The mtl_course authors"
copyright = f"{author}. Code: BSD 3-Clause. Text and figures: CC BY 4.0"
html_title = project
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "myst_nb"]
exclude_patterns = ["_static", "conf.py"]
root_doc = "index"

# Notebooks: what JupyterLab and GitHub read too, and no words of MyST; their outputs are stored.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_disable_syntax = ["myst_line_comment", "myst_block_break", "myst_target", "myst_role"]

# The package. A type of another library is a word, not a link: no list of its pages is fetched.
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
default_role = "code"
nitpick_ignore_regex = [("py:.*", r"(?!mtl_course).*")]

# The page. MathJax lies on the site.
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_favicon = "_static/mark.svg"
html_copy_source = False
html_show_sourcelink = False
html_use_index = html_domain_indices = False
html_show_search_summary = False  # a page opened as a file may not read other files
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_persistent": [],
    "use_download_button": False,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def with_sentence(render: object) -> object:
    """Let a picture of an output carry its `alt` of the notebook; without one, Sphinx warns."""

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        made = render(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt", "").strip()
        if not alt:
            self.logger.warning("a picture has no alt sentence (use plotting.show(figure, alt=...))", line=data.line)
        for image in made:
            image["alt"] = alt
        return made

    return render_image


def plain(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Our docstrings are plain words: a star or a bar outside of code is no markup; nor is "K." the start of a list."""
    for number, line in enumerate(lines):
        parts = line.split("`")  # words, code, words, ...
        parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2]]
        text = "`".join(parts)
        lines[number] = re.sub(r"^(\s*\w+: )(\w\.)", r"\1\\\2", text)


def setup(app: object) -> None:
    """Before napoleon, which reads the Google style."""
    app.connect("autodoc-process-docstring", plain, priority=100)


NbElementRenderer.render_image = with_sentence(NbElementRenderer.render_image)
