"""Build the site into build/site: python tools/make_site.py [--zip]

Sphinx works beside the site, in build/site-work, and builds only what has changed; the new site takes the old one's
place when it is whole. --zip also writes build/mtl_course-site.zip.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from website.stage import ROOT, SiteError, Stage

NEEDED = ("sphinx", "myst-nb", "sphinx-book-theme", "sphinx-mathjax-offline")
LONG_AGO = (2000, 1, 1, 0, 0, 0)  # two builds of the same texts give the same zip


def main(arguments: list[str] | None = None) -> int:
    """Build the site; 0, 1 when Sphinx found faults, 2 when something is missing, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", action="store_true", help="pack the site too")
    parser.add_argument("--out", type=Path, default=ROOT / "build/site", help="folder of the site")
    asked = parser.parse_args(arguments)
    try:
        require()
        return build(asked.out, asked.zip)
    except (SiteError, OSError) as error:
        print(f"site: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("site: interrupted; the site that was there before stays as it was", file=sys.stderr)
        return 130


def require() -> None:
    """Refuse to start without the extra `site`."""
    for name in NEEDED:
        try:
            version(name)
        except PackageNotFoundError:
            raise SiteError(f"{name} is missing: install the extra `site`, pip install -e '.[site]'") from None


def build(site: Path, packed: bool) -> int:
    """Stage the pages, run Sphinx, and put its result in the place of the old site."""
    work = site.with_name(site.name + "-work")
    if Stage(work / "source").make():
        shutil.rmtree(work / "html", ignore_errors=True)
    code = sphinx(work)
    if code:
        print(f"site: Sphinx found faults, told above; {site} stays as it was", file=sys.stderr)
        return 1
    replace(work / "html", site)
    print(f"The site of {sum(p.stat().st_size for p in site.rglob('*')) / 1e6:.0f} MB is in {site}: open index.html")
    if packed:
        print(f"Packed: {pack(site)}")
    return 0


def sphinx(work: Path) -> int:
    """Run Sphinx, where every warning is a fault."""
    if not (work / "html").is_dir():
        shutil.rmtree(work / "doctrees", ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-n", "-q", "-j", "2"]
    command += ["-d", str(work / "doctrees"), str(work / "source"), str(work / "html")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return subprocess.run(command, env=environment).returncode


def replace(new: Path, site: Path) -> None:
    """Copy beside the old site, then change names: there is no moment with half a site."""
    beside, old = site.with_name(site.name + "-new"), site.with_name(site.name + "-old")
    for folder in (beside, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(new, beside, ignore=shutil.ignore_patterns(".buildinfo*", "objects.inv"))
    if site.exists():
        site.rename(old)
    beside.rename(site)
    shutil.rmtree(old, ignore_errors=True)


def pack(site: Path) -> Path:
    """One zip of the site, the same for the same site."""
    target = site.with_name("mtl_course-site.zip")
    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in site.rglob("*") if path.is_file()):
            name = f"mtl_course-site/{path.relative_to(site).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), path.read_bytes(), zipfile.ZIP_DEFLATED)
    part.replace(target)
    return target


if __name__ == "__main__":
    sys.exit(main())
