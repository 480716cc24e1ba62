"""The site of `make site`: whole, offline, for eye, keyboard and screen reader, light, dark and on a phone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from functools import cache
from pathlib import Path

import make_site
import nbformat
import pytest
from lab_fixture import LESSONS, ROOT
from viewer_fixture import watch
from website import stage

pytestmark = pytest.mark.site
BUILD = ROOT / "tools/make_site.py"
PAGES = [str(Path(name).with_suffix("")) for name in stage.sources(ROOT)]
PAGES += ["index", "claims", "search", "notebooks/exercises/index", "notebooks/solutions/index"]
PAGES += [f"reference/{name}" for name in (*stage.MODULES, "index", "command_line")]
# Of each kind of page one or two, in every mode; the others on a phone, where most can go wrong.
KINDS = ["index", "notebooks/00_start_here", "notebooks/07_does_sharing_help", "notebooks/exercises/02_one_objective"]
KINDS += ["notebooks/solutions/06_balancing", "reference/balancing", "reference/command_line", "claims", "search"]
MODES = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 390)}
SEEN = [(page, mode) for mode in MODES for page in (PAGES if mode == "phone" else KINDS)]
# With the thousands of spans of the code axe takes ten times as long; code has tests of its own.
WITHOUT_CODE = {"exclude": [["pre"]]}
LEFT_RAW = r"\$[^$\n]+\$|\\[()\[\]]|\\[a-zA-Z]{3,}\{"
MATH = """() => [...document.querySelectorAll('.math')].map(box => {
    const drawn = box.querySelector('mjx-container');
    return drawn && drawn.offsetWidth > 0 && box.querySelector('mjx-assistive-mml math') ? '' : box.innerText;
}).concat([...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(e => e.outerHTML))"""
WORDS = """() => {
    const copy = document.querySelector('main').cloneNode(true);
    copy.querySelectorAll('pre, code, script, mjx-container').forEach(e => e.remove());
    return copy.textContent;
}"""
ONE_OF_EACH_COLOUR = """() => {
    const seen = new Set();
    document.querySelectorAll('pre > span').forEach(e => {
        if (!seen.has(e.className) && e.innerText.trim()) { seen.add(e.className); e.dataset.colour = ''; }
    });
    const output = document.querySelector('.cell_output pre');
    output.dataset.colour = '';
    return [...seen];
}"""


@pytest.fixture(scope="session")
def site() -> Path:
    """The site, built as `make site` does, with its zip."""
    done = subprocess.run([sys.executable, BUILD, "--zip"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build/site"


@cache
def soup(path: Path):
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def built(site: Path) -> list[Path]:
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


# The files.


def test_every_text_and_notebook_has_a_page_in_the_menu(site):
    assert {str(path.relative_to(site).with_suffix("")) for path in built(site)} >= set(PAGES)
    index = soup(site / "index.html")
    menu = {link["href"].partition("#")[0] for link in index.select(".bd-sidebar-primary a[href]")}
    inner = {f"{page}.html" for page in PAGES} - {"index.html", "search.html"}
    assert inner <= menu
    lessons = [row.get_text() for row in index.select("main tbody tr") if re.search(r"^\s*\d\d ", row.get_text())]
    assert len(lessons) == len(LESSONS)


def test_lessons_keep_their_outputs(site):
    for name in LESSONS:
        cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
        outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        stored = sum(any(kind.startswith("image/") for kind in output.get("data", ())) for output in outputs)
        page = soup(site / "notebooks" / Path(name).with_suffix(".html"))
        assert len(page.select(".cell_output > img, .cell_output .output > img, .cell_output a > img")) >= stored > 0
        assert len(page.select("figure.mtl-fallback")) == json.dumps(cells).count('class=\\"mtl-fallback\\"')


def test_solutions_are_on_pages_of_their_own(site):
    exercise, solution = (soup(site / f"notebooks/{kind}/02_one_objective.html") for kind in ("exercises", "solutions"))
    assert "return None  # your code" in exercise.get_text() and "BEGIN SOLUTION" not in exercise.get_text()
    assert "return None  # your code" not in solution.find_all("pre")[3].get_text()
    assert solution.h1.get_text().startswith("Solutions 02")


def test_pictures_have_a_sentence(site):
    poor = {}
    for path in built(site):
        for image in soup(path).find_all("img"):
            alt = image.get("alt", "").strip()
            a_name = re.search(r"[0-9a-f]{12}|\.(png|jpe?g|svg|gif)\b|^_", alt)
            if len(re.findall(r"[\w]+", re.sub(r"[\u4e00-\u9fff]{2}", "word ", alt))) < 4 or a_name:
                poor.setdefault(path.name, []).append(alt)
    assert poor == {}
    assert sum(len(soup(path).find_all("img")) for path in built(site)) > 200


def test_nothing_comes_from_another_server(site):
    found = []
    for path in built(site):
        for tag in soup(path).select("script[src], link[href], img[src], iframe, object, embed, video, audio, source"):
            address = tag.get("src") or tag.get("href") or ""
            if re.match(r"(https?:)?//", address):
                found.append((path.name, address))
    styles = [
        path for path in site.rglob("*.css") if re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text())
    ]
    assert found == styles == []


def test_links_lead_somewhere(site):
    dead = []
    for path in built(site):
        for link in soup(path).select("a[href]"):
            target, _, anchor = link["href"].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            goal = (path.parent / target).resolve() if target else path
            if not goal.is_file() or (anchor and goal.suffix == ".html" and not anchor_of(goal, anchor)):
                dead.append((path.name, link["href"]))
    assert dead == []


@cache
def anchor_of(path: Path, anchor: str) -> bool:
    return anchor == "top" or soup(path).find(id=anchor) is not None


def test_reference_holds_the_public_names_only(site):
    page = soup(site / "reference/balancing.html").get_text()
    assert "pcgrad" in page and "The formula: losses, float64" in page
    ids = {tag["id"] for path in (site / "reference").glob("*.html") for tag in soup(path).find_all(id=True)}
    ours = {name for name in ids if name.startswith("mtl_course.")}
    assert len(ours) > 80
    assert not [name for name in ours if re.search(r"\._(?!_)", name)]


def test_site_is_small_and_its_zip_is_whole(site):
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    with zipfile.ZipFile(site.with_name("mtl_course-site.zip")) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(files)
        assert "mtl_course-site/index.html" in archive.namelist()
    before = site.with_name("mtl_course-site.zip").read_bytes()
    assert make_site.pack(site).read_bytes() == before, "the same site gives the same zip"


# How it is made.


def test_a_second_build_writes_no_lesson_again(site):
    lesson = ROOT / "build/site-work/html/notebooks/01_one_formula.html"
    before = lesson.stat().st_mtime_ns
    assert subprocess.run([sys.executable, BUILD], cwd=ROOT, capture_output=True).returncode == 0
    assert lesson.stat().st_mtime_ns == before


# Page, text, and the text on the site.
LINKS = [
    ("notebooks/01_a.ipynb", "[a](00_start_here.ipynb#We-learned)", "[a](../notebooks/00_start_here.ipynb#we-learned)"),
    ("README.md", "[a](notebooks/05_sharing.ipynb#The-bill:-a)", "[a](notebooks/05_sharing.ipynb#the-bill-a)"),
    ("README.md", "[exercises](notebooks/exercises)", "[exercises](notebooks/exercises/index.md)"),
    ("notebooks/TEACHING.md", "[homework](homework)", "homework"),
    ("README.md", "[`a`](nowhere.txt) and `[b](c.md)`", "`a` and `[b](c.md)`"),
    ("README.md", "[front](data/records/front.json)", "[front](data/records/front.json)"),
    ("README.md", "[out](../../../etc/passwd) [in](https://arxiv.org/abs/1)", "out [in](https://arxiv.org/abs/1)"),
    ("data/README.md", "![seen](../notebooks/start_here.png)", "![seen](../notebooks/start_here.png)"),
]  # fmt: skip


@pytest.mark.parametrize("page, text, wanted", LINKS)
def test_links_are_those_of_the_site(tmp_path, page, text, wanted):
    assert stage.Stage(tmp_path).markdown(page, text) == wanted


def test_a_viewer_that_needs_a_kernel_becomes_one_line(tmp_path):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Viewer()"}
    output = nbformat.v4.new_output("display_data", view)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    made = json.loads(stage.Stage(tmp_path).notebook("notebooks/a.ipynb", nbformat.writes(notebook)))
    assert made["cells"][0]["outputs"][0]["data"] == {"text/plain": "A viewer, live in a running Jupyter."}


def test_a_readme_without_its_table_is_told_in_one_sentence(tmp_path):
    with pytest.raises(stage.SiteError, match="README.md has no table between <!-- claims -->"):
        stage.claims_page("# Title\n\n## What the course found\n\nNothing.\n")


def test_a_picture_without_a_sentence_stops_the_build(tmp_path):
    """The faults of a new lesson: a picture without alt, a link to a heading that is not there, a heading jump."""
    source = tmp_path / "source"
    stage.Stage(source).assets()
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
    output = nbformat.v4.new_output("display_data", {"image/png": pixel})
    text = nbformat.v4.new_markdown_cell("# Title\n\n[dead](#nowhere)\n\n### Jump")
    code = nbformat.v4.new_code_cell("1", outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[text, code]), source / "index.ipynb")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", source, tmp_path / "html"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "a picture has no alt sentence" in done.stderr
    assert "nowhere" in done.stderr and "H1 to H3" in done.stderr


def test_ctrl_c_leaves_the_site_that_was_there(tmp_path):
    old = tmp_path / "site/index.html"
    old.parent.mkdir()
    old.write_text("old")
    command = [sys.executable, BUILD, "--out", old.parent]
    run = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "site-work/doctrees").is_dir() and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert told.strip().splitlines()[-1].startswith("site: interrupted; the site that was there before stays")
    assert "Traceback" not in told
    assert [path.name for path in old.parent.iterdir()] == ["index.html"] and old.read_text() == "old"


def test_a_missing_extra_is_told_with_its_mend(monkeypatch, capsys):
    monkeypatch.setattr(make_site, "NEEDED", ("a-package-that-nobody-has",))
    assert make_site.main([]) == 2
    told = capsys.readouterr().err
    assert told == "site: a-package-that-nobody-has is missing: install the extra `site`, pip install -e '.[site]'\n"


# The pages, in a browser.


@pytest.fixture(scope="module")
def windows(browser):
    """A window for each mode."""
    opened = {}
    for mode, (scheme, width) in MODES.items():
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        opened[mode] = context.new_page()
        watch(opened[mode], ("file:", "data:"))
    yield opened
    for page in opened.values():
        page.context.close()


def visit(page, site: Path, name: str, query: str = ""):
    """Open a page and wait for its formulas."""
    page.trouble.clear()
    page.goto((site / f"{name}.html").as_uri() + query)
    page.evaluate("window.MathJax?.startup?.promise")
    page.evaluate("new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve, 50)))")
    return page


def violations(page, **context) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=context, options={"preload": False, "resultTypes": ["violations"]}).response
    return [
        f"{one['id']}: {node['html'][:200]}: {node.get('failureSummary', '')}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def keep_picture(page, name: str) -> None:
    """A picture of the window, where MTL_COURSE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("MTL_COURSE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"site_{name.replace('/', '_')}.png")


@pytest.mark.parametrize("name, mode", SEEN, ids=[f"{name}-{mode}" for name, mode in SEEN])
def test_page_is_drawn_and_clean(site, windows, name, mode):
    page = visit(windows[mode], site, name)
    assert page.evaluate("document.documentElement.dataset.theme") == MODES[mode][0]
    assert page.evaluate(MATH) == [""] * page.locator(".math").count()
    assert re.findall(LEFT_RAW, page.evaluate(WORDS)) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    code = "[...document.querySelectorAll('pre')].filter(e => e.scrollWidth > e.clientWidth && e.tabIndex < 0)"
    assert page.evaluate(f"{code}.length") == 0, "code that scrolls is out of the keyboard's reach"
    pictures = page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)")
    assert pictures == []
    if name in KINDS:
        keep_picture(page, f"{name}_{mode}")
    assert violations(page, **WITHOUT_CODE) == []
    assert page.trouble == []


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_colours_of_code_have_contrast(site, windows, mode):
    page = visit(windows[mode], site, "notebooks/04_first_segmenter")
    assert len(page.evaluate(ONE_OF_EACH_COLOUR)) > 10
    assert violations(page, include=[["[data-colour]"]]) == []


@pytest.mark.parametrize("name", [Path(name).stem for name in LESSONS])
def test_formulas_of_a_lesson_are_those_of_its_notebook(site, windows, name):
    cells = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)
    count = len(re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", text, flags=re.DOTALL))
    page = visit(windows["phone"], site, f"notebooks/{name}")
    assert page.locator("mjx-container").count() == count
    assert page.evaluate("[...document.fonts].every(font => font.status !== 'error')")


@pytest.mark.parametrize(
    "words, wanted", [("PCGrad", "06_balancing"), ("图像分割", "00_start_here"), ("upgrad", "reference/balancing")]
)
def test_search_finds(site, windows, words, wanted):
    page = visit(windows["light"], site, "index")
    page.keyboard.press("Control+k")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.wait_for_function("document.querySelector('.search-summary')?.innerText.includes('found')", timeout=20_000)
    assert any(wanted in link.get_attribute("href") for link in page.locator("#search-results li a").all())
    assert violations(page) == [] and page.trouble == []


def test_keyboard_shows_where_it_is(site, windows):
    page = visit(windows["light"], site, "index")
    reached = []
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText.trim()"))
        style = page.evaluate(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
        )
        assert style[0] != "none" and float(style[1][:-2]) >= 2, f"no outline on {reached[-1]!r}"
    assert reached[0] == "Skip to main content"
    assert "00 · Start here" in reached


def test_dark_mode_has_a_switch(site, windows):
    page = visit(windows["light"], site, "index")
    for mode in ("dark", "light"):
        page.locator(".theme-switch-button:visible").click()
        page.locator(f".theme-change-button[data-mode={mode}]:visible").click()
        assert page.evaluate("document.documentElement.dataset.theme") == mode
    page.evaluate("localStorage.clear()")


def test_the_menu_opens_on_a_phone(site, windows):
    page = visit(windows["phone"], site, "index")
    lesson = page.locator(".bd-sidebar-primary a, dialog a").filter(has_text="06 · Balancing").first
    assert not lesson.is_visible()
    page.locator(".primary-toggle:visible").click()
    lesson.click()
    page.wait_for_url("**/06_balancing.html")


def test_the_table_of_claims_scrolls_inside_its_frame(site, windows):
    page = visit(windows["phone"], site, "claims")
    frame = page.locator(".pst-scrollable-table-container")
    assert frame.evaluate("e => e.scrollWidth > e.clientWidth && e.clientWidth <= innerWidth")
    assert frame.locator("tbody tr td:nth-child(3)").first.evaluate("e => e.offsetWidth") >= 300
    frame.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.pst-scrollable-table-container').scrollLeft > 0")
