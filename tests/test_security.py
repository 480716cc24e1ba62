"""Files are data and never code, names are text, nothing listens or fetches unasked; see SECURITY.md."""

import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
import socket
import stat
import tarfile
import tomllib

import nbformat
import pytest
import security_rules
import torch
import yaml
from lab_fixture import ROOT, open_lesson, run_all, write_notebook
from nbconvert import HTMLExporter
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image
from safetensors.torch import load_file, save_file
from test_repository import EXTRAS, PROJECT, SKIPPED, tracked
from viewer_fixture import open_viewer, watch

from mtl_course import models, plotting, tasks, training
from mtl_course.__main__ import main
from mtl_course.commands.download import extract
from mtl_course.datasets.reading import read_classes, read_picture
from mtl_course.errors import CourseError
from mtl_course.records import store
from mtl_course.widgets import AlphaMixer, EpochScrubber, FrontExplorer, GradientPlayground, MaskExplorer

HIT = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
NO_HIT = "window.hit === undefined"

# ---- the tree --------------------------------------------------------------------------------------------------------

# Where a finding is meant, and why. A row that is needed no more fails.
MEANT = {
    ("mtl_course/commands/download.py", "address"): "VOC_URL, whose size and hash are checked",
    ("mtl_course/commands/download.py", "fetch"): "fetches VOC_URL",
    ("tools/experiments/programs.py", "code from text"): "an experiment is a program of the checkout, see SECURITY.md",
    ("mtl_course/widgets/base.py", "raw html"): "the static fallback, whose texts are escaped",
    ("notebooks/09_training_on_a_gpu.ipynb", "code from text"): "runs the text of its own cell",
    ("notebooks/homework/thresholds.py", "code from text"): "runs our own reference solution",
    ("tests/faults/test_training.py", "pickle"): "makes a hostile file",
    ("tests/faults/test_training.py", "shell"): "makes a hostile file",
    ("tests/lab_fixture.py", "fetch"): "asks the JupyterLab that it has started",
    ("tests/security_rules.py", "raw html"): "looks for it",
    ("tests/security_rules.py", "open server"): "looks for it",
    ("tests/test_colab.py", "code from text"): "runs our own cell for Colab",
    ("tests/faults/test_download.py", "raw html"): "a server that sends a web page in place of the archive",
    ("tests/test_explorer.py", "raw html"): "reads the static fallback",
    ("tests/test_front.py", "raw html"): "reads the static fallback",
    ("tests/test_homework.py", "code from text"): "runs our own visible tests",
    ("tests/test_models.py", "pickle"): "a round trip in memory",
    ("tests/test_repository.py", "code from text"): "runs the code of the README",
    ("tests/test_resume.py", "shell"): "makes a hostile file",
    ("tests/test_scenes.py", "pickle"): "a round trip in memory, as a loader's worker does it",
    ("tests/test_security.py", "raw html"): "reads the static fallback",
    ("tests/test_security.py", "shell"): "makes a hostile file",
    ("tests/test_security.py", "pickle"): "makes a hostile file",
    ("tests/test_security.py", "open server"): "the planted faults",
    ("tests/test_voc.py", "pickle"): "a round trip in memory, as a loader's worker does it",
}


def test_no_file_runs_code_from_data_opens_a_server_or_writes_html():
    found, seen = [], set()
    for path in tracked():
        if path.suffix not in SKIPPED:
            for line, rule, what in security_rules.findings(path):
                place = (path.relative_to(ROOT).as_posix(), rule)
                if rule == "address" and place[0].startswith("tests/"):
                    continue  # a test may say one; to fetch it is a finding of its own
                seen.add(place)
                if place not in MEANT:
                    found.append(f"{place[0]}:{line}: {rule}: {what}")
    assert found == []
    assert sorted(set(MEANT) - seen) == [], "these rows of MEANT are needed no more"


PLANTED = {
    "pickle": [
        "import pickle",
        "def f():\n    from   pickle import loads as read",
        "import dill as p",
        "import joblib",
        "import marshal",
        "import torch as t\nt . load(\n 'a')",
        "from torch import load as read\nread('a')",
        "import torch\ntorch.load('a', weights_only = False)",
        "import torch\ntorch.load('a', weights_only=not True)",
        "anything('a', weights_only=False)",
        "from torch.hub import load_state_dict_from_url as get\nget('a')",
        "weights.get_state_dict(check_hash=True)",
        "from torchvision import models\nmodels.get_model('resnet18', weights='DEFAULT')",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "import torch\ntorch.serialization.add_safe_globals([print])",
    ],
    "yaml": [
        "import yaml\nyaml.load('a')",
        "from yaml import unsafe_load as y\ny('a')",
        "import yaml\nyaml . full_load('')",
    ],
    "code from text": [
        "eval ('1')",
        "run = exec",
        "import builtins\nbuiltins.eval('1')",
        "getattr(builtins, 'exec')('1')",
        "compile('1', '', 'eval')",
        "import runpy\nrunpy.run_path('a')",
    ],
    "shell": [
        "import os\nos.system('ls')",
        "from os import popen as p\np('ls')",
        "import subprocess as s\ns.run('ls', shell = True)",
        "import subprocess\nsubprocess.getoutput('ls')",
    ],
    "raw html": [
        "from IPython.display import HTML as H, display\ndisplay(H('<b>'))",
        "import ipywidgets as w\nw.HTML('<b>')",
        "display({'text/html': x}, raw=True)",
        "class A:\n    def _repr_html_(self): return ''",
    ],
    "fetch": ["from urllib.request import urlopen as u\nu('a')", "import requests\nrequests.get('a')"],
    "address": ["x = 'https://example.org/a'", "get(f'https://example.org/{x}')"],
}
PLANTED_JS = [
    "a.innerHTML = b", "a . outerHTML=b", "a.insertAdjacentHTML('x', b)", "document . write(b)", "eval(b)",
    "new  Function(b)", "Function(b)()", "setTimeout('b')", "fetch('/a')", "new WebSocket(a)", "import('a')",
    "a.src = 'https://example.org'", "frame.srcdoc = a", "h('img', { 'onerror': a })", "a.style = 'url(b)'",
    "location.href = a", "new DOMParser()", "r.createContextualFragment(a)", "navigator.sendBeacon(a)",
]  # fmt: skip
PLANTED_SERVER = [
    "--ServerApp.ip=0.0.0.0", "jupyter lab --IdentityProvider.token= --no-browser", "c.ServerApp.allow_origin = '*'",
    "c.ServerApp.token = ''", "JUPYTER_TOKEN: ''", '"password": ""', "--ServerApp.token=''", "disable_check_xsrf=True",
]  # fmt: skip
PLANTED_PAGE = [
    "<script>",
    "<img src=x onerror = 'a'>",
    "<iframe src=a>",
    "[a](javascript:b)",
    "<img src=//example.org/a>",
]


@pytest.mark.parametrize(("rule", "source"), [(rule, source) for rule, many in PLANTED.items() for source in many])
def test_a_planted_fault_in_python_is_found(rule, source):
    assert rule in [name for _, name, _ in security_rules.python(source)]


@pytest.mark.parametrize("source", PLANTED_JS)
def test_a_planted_fault_in_javascript_is_found(source):
    assert [*security_rules.javascript(source)]


@pytest.mark.parametrize("source", PLANTED_SERVER)
def test_a_planted_open_server_is_found(source):
    assert [*security_rules.text(source, security_rules.SERVER)]


@pytest.mark.parametrize("source", PLANTED_PAGE)
def test_planted_html_in_a_text_is_found(source):
    assert [*security_rules.text(source, security_rules.PAGE)]


@pytest.mark.parametrize(
    "cell",
    [
        nbformat.v4.new_code_cell("!ls"),
        nbformat.v4.new_code_cell("%%bash\nls"),
        nbformat.v4.new_code_cell("%%html\n<b>"),
        nbformat.v4.new_markdown_cell("<script>1</script>"),
        nbformat.v4.new_markdown_cell("```python\nimport pickle\n```"),
        nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", {"text/html": "<b>a</b>"})]),
        nbformat.v4.new_code_cell(
            "1",
            outputs=[nbformat.v4.new_output("display_data", {"text/html": f'<figure class="mtl-fallback">{HIT}'})],
        ),
    ],
)
def test_a_planted_fault_in_a_notebook_is_found(cell):
    assert [*security_rules.notebook(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])))]


def test_right_code_is_left_alone():
    right = "import torch, yaml, re\nfrom pickle import UnpicklingError\ntorch.load('a', weights_only=True)\n"
    right += "yaml.safe_load('a')\nmodel.eval()\nre.compile('a')\ndef f(compile): return compile\n"
    right += "import subprocess\nsubprocess.run(['ls'])\n'''see https://example.org for more'''\n"
    assert [*security_rules.python(right)] == []
    assert [*security_rules.javascript("a.textContent = b; setTimeout(() => f(), 1); eval_of(b); prefetch(b)")] == []
    assert [
        *security_rules.text("c.ServerApp.ip = '127.0.0.1'; token = 'abc'; token=secret", security_rules.SERVER)
    ] == []


# ---- server, pages, workflow, versions -------------------------------------------------------------------------------


def test_make_lab_listens_on_this_machine_alone_and_keeps_its_token():
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert "--ServerApp.ip=127.0.0.1" in recipe and not re.search(r"token|password|origin|xsrf|remote_access", recipe)
    starts = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in tracked()
        if path.suffix in ("", ".sh", ".yml", ".yaml", ".json", ".toml", ".cfg") and path.suffix not in SKIPPED
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"jupyter[ -]?(lab|notebook|server)\b\s+--|-m jupyterlab", line)
    ]
    assert starts and all(line.startswith("Makefile: ") for line in starts), starts


def test_the_page_of_a_viewer_runs_its_own_script_alone():
    page = (ROOT / "mtl_course/widgets/js/page.html").read_text(encoding="utf-8")
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in re.search(r'Policy" content="([^"]*)"', page)[1].split(";"))
    assert policy["script-src"] == f"'sha256-{digest}' blob:", "the script has changed: put its hash into page.html"
    assert policy["default-src"] == "'none'" and policy["img-src"] == "data: blob:"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "{{" not in script, "what is filled in stands outside the script"


def test_workflows_may_only_read_and_run_no_text_of_strangers():
    paths = sorted((ROOT / ".github/workflows").glob("*.yml"))
    assert [path.name for path in paths] == ["audit.yml", "ci.yml"]
    for path in paths:
        text = path.read_text()
        flow = yaml.safe_load(text)
        assert flow["permissions"] == {"contents": "read"}, path
        assert "pull_request_target" not in text and "secrets." not in text and "github.event" not in text
        for job in flow["jobs"].values():
            assert "permissions" not in job and job["timeout-minutes"] <= 60
            for step in job["steps"]:
                assert "${{" not in step.get("run", "")
                if step.get("uses", "").startswith("actions/checkout"):
                    assert step["with"]["persist-credentials"] is False


def test_the_audit_reads_the_versions_that_are_installed():
    flow = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text())
    assert set(flow[True]) == {"push", "pull_request", "schedule"}  # YAML reads `on` as true
    runs = " ".join(step.get("run", "") for step in flow["jobs"]["audit"]["steps"])
    assert "pip-audit" in runs and "constraints.txt" in runs


# The first version without the known holes that SECURITY.md names.
FLOORS = {
    "jupyterlab": "4.5.9", "jupyter_server": "2.20",
    "torch": "2.6", "pillow": "12.2", "onnx": "1.21", "tqdm": "4.66.3",
    "setuptools": "78.1.1",
}  # fmt: skip


BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]


def test_floors_lie_above_known_holes():
    lines = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra), *BUILD]
    floors = {r.name: next(iter(r.specifier)) for r in map(Requirement, lines) if r.specifier}
    told = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for name, least in FLOORS.items():
        assert floors[name].operator == ">=" and Version(floors[name].version) >= Version(least), name
        assert re.search(rf"\| `?{name}`? \| {re.escape(least)} \|", told), f"SECURITY.md gives no reason for {name}"


def test_constraints_are_not_below_the_floors():
    pins = [
        Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    for line in PROJECT["dependencies"]:
        wanted = Requirement(line)
        exact = [next(iter(p.specifier)).version for p in pins if p.name == wanted.name and "==" in str(p.specifier)]
        assert all(wanted.specifier.contains(version) for version in exact), line


def test_each_claim_of_security_md_names_tests_that_exist():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`tests/([\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 15
    for file, test in named:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{file}::{test}"


# ---- hostile checkpoints ---------------------------------------------------------------------------------------------


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small checkpoint of semantic and depth."""
    made = tasks.make(("semantic", "depth"), ("background", "cat"))
    torch.manual_seed(0)
    return training.save(
        tmp_path_factory.mktemp("good") / "m.safetensors", models.build("hard", "unet", made, channels=(4, 6)), made
    )


def about(task=None, classes=None, **recipe):
    """The description of `good`, with another name of the first task, other classes, or another recipe."""
    kinds = [
        {"name": task or "semantic", "kind": "classes", "classes": classes or ["background", "cat"]},
        {"name": "depth", "kind": "depth", "classes": []},
    ]
    usual = {"model": "hard", "trunk": "unet", "trunk_options": {"channels": [4, 6]}}
    return {"version": "1", "recipe": usual | recipe, "tasks": kinds}


def rewritten(good, path, description):
    """`good` with another description; a name of its weights follows that of its task."""
    weights, text = load_file(good), description if isinstance(description, str) else json.dumps(description)
    if isinstance(description, dict):
        name = description["tasks"][0]["name"]
        weights = {key.replace("heads.semantic.", f"heads.{name}."): value for key, value in weights.items()}
    save_file(weights, path, {"mtl_course": text})
    return path


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def predicted(capsys, checkpoint, folder):
    """What predict says of a picture; --out is folder/in/out."""
    Image.new("RGB", (16, 16), "red").save(folder / "p.png")
    words = ["predict", "--checkpoint", checkpoint, folder / "p.png", "--out", folder / "in/out", "--size", 16]
    capsys.readouterr()
    code = main([*map(str, words), "--device", "cpu"])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and said.err.count("\n") == (code == 2)
    return code, said.err


def test_the_changed_checkpoint_of_these_tests_is_else_a_good_one(good, tmp_path, capsys):
    file = rewritten(good, tmp_path / "m.safetensors", about("mask <b>", ["<img src=x>", "$(x)"]))
    assert predicted(capsys, file, tmp_path) == (0, "")
    assert "in/out/p_mask.png" in everything(tmp_path)


@pytest.mark.parametrize(
    "task",
    ["../../x", "/x", "..", "a/b", "..\\..\\x", "C:x", "a\x1b[2J", "a\nmtl_course: all is well", "a\x00", "\u202e"],
)
def test_a_task_name_leads_to_no_other_folder_and_acts_on_no_terminal(good, tmp_path, capsys, task):
    file = rewritten(good, tmp_path / "m.safetensors", about(task))
    code, said = predicted(capsys, file, tmp_path)
    assert code == 2 and "m.safetensors" in said
    assert everything(tmp_path) == ["m.safetensors", "p.png"]


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "a\r", "\u202ecat"])
def test_a_class_name_of_a_checkpoint_acts_on_no_terminal(good, tmp_path, capsys, name):
    assert predicted(capsys, rewritten(good, tmp_path / "m.safetensors", about(classes=["a", name])), tmp_path)[0] == 2


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_called_safetensors_is_refused_unread(good, tmp_path, capsys, kind):
    import pickle

    marker, file = tmp_path / "marker", tmp_path / "m.safetensors"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Touches(marker)))
    else:
        torch.save({"w": Touches(marker)}, file)
    code, said = predicted(capsys, file, tmp_path)
    assert code == 2 and "m.safetensors is damaged or no safetensors file" in said and not marker.exists()


DEEP = "[" * 3000 + "]" * 3000
RECIPES = {
    "negative": about(trunk_options={"channels": [-4, 6]}),
    "empty": about(trunk_options={"channels": []}),
    "text": about(trunk_options={"channels": "ab"}),
    "zero": about(trunk_options={"channels": [0, 0]}),
    "huge": about(trunk_options={"channels": [10**15, 10**15]}),
    "no number": about(trunk_options=3),
    "unknown": about(trunk="../x"),
    "a list": "[1]",
    "a number": "3",
    "deep": DEEP,
    "no JSON": "{",
    "classes are a number": json.dumps(about() | {"tasks": [{"name": "a", "kind": "classes", "classes": 3}]}),
    "classes are no texts": json.dumps(about(classes=[1, {}])),
    "a kind that is a list": json.dumps(about() | {"tasks": [{"name": "a", "kind": [], "classes": []}]}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_one_sentence(good, tmp_path, capsys, name):
    code, said = predicted(capsys, rewritten(good, tmp_path / "m.safetensors", RECIPES[name]), tmp_path)
    assert code == 2 and len(said) < 600 and everything(tmp_path) == ["m.safetensors", "p.png"]


@pytest.mark.parametrize("recipe", [{"trunk": "resnet18:pretrained=1"}, {"trunk_options": {"pretrained": True}}])
def test_a_recipe_fetches_nothing(good, tmp_path, capsys, monkeypatch, recipe):
    def refuse(*_):
        raise AssertionError("a checkpoint opened a connection")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    file = rewritten(good, tmp_path / "m.safetensors", about(**({"trunk": "resnet18", "trunk_options": {}} | recipe)))
    assert predicted(capsys, file, tmp_path)[0] == 2 and not (tmp_path / "cache").exists()


def test_weights_in_the_cache_of_torch_run_no_code(tmp_path, monkeypatch):
    """torchvision would unpickle what lies there under the name of its weights."""
    from torchvision.models import ResNet18_Weights, resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints" / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save({"w": Touches(tmp_path / "marker")}, file)
    with pytest.raises(CourseError, match="ImageNet weights of resnet18 could not be fetched"):
        models.backbone("resnet18", pretrained=True)
    assert not (tmp_path / "marker").exists()
    torch.save(resnet18().state_dict(), file)
    assert models.backbone("resnet18", pretrained=True).out_channels == 16


# ---- hostile pictures, lists, options, results -----------------------------------------------------------------------


def test_a_picture_starts_no_program(tmp_path, monkeypatch):
    """Pillow draws EPS, whatever the file is called, by starting Ghostscript."""
    marker, program, file = tmp_path / "marker", tmp_path / "bin/gs", tmp_path / "photo.png"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    Image.new("RGB", (8, 8)).save(file, "EPS")
    with pytest.raises(CourseError, match="photo.png: not a picture in JPEG or PNG"):
        read_picture(file)
    assert not marker.exists()
    with pytest.raises(OSError), Image.open(file) as image:  # what would have happened
        image.load()
    assert marker.exists()


@pytest.mark.parametrize("name", ["\x1b[2J", "a\x07", "\u202ecat"])
def test_a_class_name_of_a_list_acts_on_no_terminal(tmp_path, name):
    (tmp_path / "classes.txt").write_text(f"background\n{name}\n", encoding="utf-8")
    with pytest.raises(CourseError, match="without control characters") as caught:
        read_classes(tmp_path / "classes.txt")
    assert str(caught.value).isprintable()


def test_a_list_of_classes_is_no_window_to_other_files(tmp_path):
    (tmp_path / "secret").write_text("one\ntwo\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/classes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(CourseError) as caught:
        read_classes(tmp_path / "data/classes.txt")
    assert "one" not in str(caught.value).split()


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o666])
def test_an_archive_gives_no_special_rights(tmp_path, mode):
    member = tarfile.TarInfo("VOCdevkit/VOC2012/program")
    member.mode, member.size = mode, 2
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(member, io.BytesIO(b"hi"))
    found = extract(tmp_path / "a.tar", tmp_path / "root") / "program"
    assert stat.S_IMODE(found.stat().st_mode) & 0o7022 == 0


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)
CONFIGS = {
    "a Python object": "root: !!python/object/apply:os.system ['touch MARKER']",
    "aliases of aliases": BOMB + "root: *i\n",
    "deep": f"root: {DEEP}",
    "no date": "root: 2000-99-99",
    "no number": "size: !!int ''",
    "many digits": "size: " + "9" * 5000,
    "pictures larger than any memory": "data: scenes\nsize: 100000000\n",
    "no truth": "size: !!bool x",
    "no time": "size: !!timestamp x",
    "a byte that is no text": "\x00",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_options_in_yaml_are_plain_values_or_one_sentence(good, tmp_path, capsys, name):
    marker = tmp_path / "marker"
    shutil.copy(good, tmp_path / "best.safetensors")
    (tmp_path / "config.yaml").write_text(CONFIGS[name].replace("MARKER", str(marker)))
    capsys.readouterr()
    assert main(["evaluate", "--checkpoint", str(tmp_path / "best.safetensors"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "config.yaml" in said and len(said) < 600 and not marker.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_results_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.json")
    assert main(["view", str(tmp_path), "--out", str(tmp_path / "v.html"), "--no-open"]) == 2


@pytest.mark.parametrize("task", ["../../secret", "/etc/passwd", "a/b", "a\x00b"])
@pytest.mark.parametrize("photo", ["/etc/passwd", "../secret.png", "..", "a\x00b", "secret.png"])
def test_results_of_strangers_show_no_other_file(tmp_path, capsys, task, photo):
    """view takes pictures from the folder itself, by their names alone."""
    results = tmp_path / "in/results"
    results.mkdir(parents=True)
    for place in (tmp_path / "secret.png", tmp_path / "in/secret.png"):
        Image.new("RGB", (8, 8), "red").save(place)
    text = {"photo": photo, "areas": {task: {"background": {}, "cat": {}}}}
    (results / "p.json").write_text(json.dumps(text))
    capsys.readouterr()
    assert main(["view", str(results), "--out", str(tmp_path / "v.html"), "--no-open"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "p.json" in said or "is not in" in said
    assert not (tmp_path / "v.html").exists()


def test_deep_results_and_records_are_one_sentence(tmp_path, capsys):
    (tmp_path / "p.json").write_text(DEEP)
    assert main(["view", str(tmp_path), "--out", str(tmp_path / "v.html"), "--no-open"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(CourseError, match="p.json is damaged"):
        store.read(tmp_path / "p.json")


# ---- what a notebook and a page show, in a real browser --------------------------------------------------------------


def explorer(names=(HIT, "b"), title=HIT):
    images, masks = torch.zeros(2, 3, 8, 8), torch.ones(2, 8, 8, dtype=torch.int64)
    return MaskExplorer(images, masks, masks, classes=("background", HIT), names=names, models=(HIT, HIT), title=title)


@pytest.fixture
def shown(monkeypatch):
    """A notebook whose outputs are a viewer's static fallback and a figure, all with hostile texts."""
    outputs = []

    def display(data, raw=False, metadata=None):
        data, metadata = (data, metadata or {}) if raw else ({"text/markdown": data.data, "text/plain": "-"}, {})
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))

    monkeypatch.setattr("IPython.display.display", display)
    figure = plotting.curves({"a": [1.0, 2.0], "b": [2.0, 1.0]}, "x", "y")
    plotting.show(figure, alt=f'"{HIT}', caption=f"A caption with {HIT} in it, and $x^2$.")
    data, metadata = explorer()._repr_mimebundle_()
    data = {kind: value for kind, value in data.items() if kind.startswith("text/")}
    outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])


def open_page(page, path):
    watch(page, ("file:", "data:", "blob:"))
    page.on("dialog", lambda dialog: page.trouble.append(dialog.message))
    page.goto(path.as_uri())


@pytest.mark.browser
def test_an_exported_notebook_shows_hostile_names_as_text(page, tmp_path, shown):
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="")
    (tmp_path / "n.html").write_text(exporter.from_notebook_node(shown)[0], encoding="utf-8")
    open_page(page, tmp_path / "n.html")
    page.wait_for_timeout(300)
    assert page.evaluate(NO_HIT)
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("figure.mtl-fallback figcaption").inner_text().count(HIT) >= 2
    assert page.locator(".jp-RenderedMarkdown").inner_text().startswith(f"A caption with {HIT} in it")
    assert page.locator(".jp-RenderedImage img").count() == 1 and page.locator("[onerror]").count() == 0


@pytest.mark.browser
def test_the_check_for_scripts_in_a_page_can_fail(page, tmp_path):
    (tmp_path / "n.html").write_text(f"<p>{HIT}</p>", encoding="utf-8")
    open_page(page, tmp_path / "n.html")
    page.wait_for_function("window.hit === 1")


@pytest.mark.browser
def test_a_page_of_a_viewer_forbids_what_its_code_does_not_do(page, tmp_path):
    """Were a name ever read as HTML, the page's policy would still not let it run or fetch."""
    root = open_viewer(page, explorer(), tmp_path, title=HIT)
    assert page.evaluate(NO_HIT) and page.trouble == [] and root.locator("img, script").count() == 0
    tries = {
        "html": "document.body.innerHTML = '<b>a</b>'",
        "code": "document.createElement('script').text = 'window.hit = 1'",
        "handler": "document.createElement('img').setAttribute('onerror', 'window.hit = 1')",
        "beside": "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">')",
    }
    for what, source in tries.items():
        assert re.search("Trusted(HTML|Script)", _error(page, source)), what
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        place = f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        assert "Failed to fetch" in _error(page, f"await fetch('{place}')")
        _error(page, f"const one = new Image(); one.src = '{place}'; document.body.append(one)")
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.evaluate(NO_HIT)


def others():
    """The other viewers with hostile texts wherever they take one."""
    images, masks = torch.zeros(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.int64)
    point = {"label": HIT, "x": 1, "y": 2, "group": HIT, "weights": {HIT: 1.0}}
    yield FrontExplorer([point, point | {"x": 2}], x=HIT, y=HIT, interval=HIT, title=HIT)
    yield AlphaMixer(torch.zeros(2, 1, 8, 8), masks == 1, labels=(HIT, "b"), title=HIT)
    yield EpochScrubber(
        images, masks, [masks], classes=("background", HIT), scores={HIT: [1.0]}, names=[HIT], title=HIT
    )
    yield GradientPlayground(title=HIT)


@pytest.mark.browser
def test_the_other_viewers_show_hostile_texts_as_text(page, tmp_path):
    for viewer in others():
        root = open_viewer(page, viewer, tmp_path, title=HIT)
        assert page.evaluate(NO_HIT) and page.trouble == [] and root.locator("img, script").count() == 0
        assert page.title() == HIT and page.locator("h1").inner_text() == HIT
        assert HIT in root.inner_text() or isinstance(viewer, GradientPlayground)
        assert "<img src=x" not in viewer._repr_mimebundle_()[0]["text/html"]


def _error(page, source):
    """The error that a statement of a page's own code meets, or ""."""
    return page.evaluate(f"async () => {{ try {{ {source}; }} catch (error) {{ return String(error); }} return ''; }}")


LIVE = f"""import torch
from mtl_course import plotting, widgets
HIT = {HIT!r}
images, masks = torch.zeros(2, 3, 8, 8), torch.ones(2, 8, 8, dtype=torch.int64)
plotting.show(plotting.curves({{"a": [1.0, 2.0]}}, "x", "y"), alt=HIT, caption="A caption with " + HIT)
texts = {{"classes": ("background", HIT), "names": (HIT, "b"), "models": (HIT, HIT), "title": HIT}}
widgets.MaskExplorer(images, masks, masks, **texts)"""


@pytest.mark.browser
def test_jupyterlab_shows_hostile_names_as_text(page, lab):
    """Of a notebook that was just run, and so is trusted."""
    write_notebook(lab, "hostile.ipynb", LIVE)
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    open_lesson(page, lab, "hostile.ipynb")
    run_all(page)
    page.wait_for_selector(".mtl-viewer .mtl-thumb")
    panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    assert panel.locator(".mtl-thumb span").first.inner_text() == HIT
    assert f"A caption with {HIT}" in panel.locator(".jp-RenderedMarkdown").last.inner_text()
    assert page.evaluate(NO_HIT) and dialogs == [] and page.locator("img[src=x]").count() == 0


def test_the_fallback_of_a_viewer_escapes_its_texts():
    page = explorer()._repr_mimebundle_()[0]["text/html"]
    assert "<script" not in page and "<img src=x" not in page and html.escape(HIT) in page
