"""The site of the documents builds without a warning, and its reference has every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tools.docs_site import PACKAGES, ROOT, public_names


def test_the_site_builds_and_has_every_public_name(tmp_path: Path) -> None:
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (build.returncode, build.stdout + build.stderr) == (0, "")
    assert (tmp_path / "index.html").exists()
    for package in PACKAGES:
        page = (tmp_path / "reference" / package / "index.html").read_text(encoding="utf-8")
        headings = set(re.findall(r'<h3 id="[^"]*?(\w+)"', page))
        assert set(public_names(package)) - headings == set()
