"""A headless browser for tests: pages in frames of a given width, measured by the page around them, and a
picture of all.
"""

import functools
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

_HARNESS = """<!doctype html><meta charset="utf-8">
<body style="margin: 0">%(frames)s<pre id="found"></pre><script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement, view = frame.contentWindow;
    const sizes = [];
    for (const node of page.querySelectorAll("body *")) {
      const isText = child => child.nodeType === 3 && child.data.trim();
      if (!node.getClientRects().length || ![...node.childNodes].some(isText)) continue;
      const turned = node.getScreenCTM ? node.getScreenCTM() : {a: 1, b: 0};
      const scale = Math.hypot(turned.a, turned.b);
      sizes.push(scale * parseFloat(view.getComputedStyle(node).fontSize));
    }
    const svgs = [...page.querySelectorAll("svg")].filter(svg => svg.getClientRects().length);
    return {
      title: page.title, pwned: "pwned" in view || "pwned" in window,
      scripts: page.scripts.length, images: page.images.length,
      overflow: root.scrollWidth - root.clientWidth, smallest: Math.min(...sizes),
      texts: sizes.length, figures: svgs.length,
      widest: Math.max(0, ...svgs.map(svg => svg.getBoundingClientRect().right)) - root.clientWidth,
      dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    };
  });
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""
_FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=5000"),
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of a server of this folder, on this machine alone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def look(folder: Path, pages: list[tuple[str, int]], dark: bool) -> tuple[list[dict[str, Any]], Path]:
    """What a browser finds of each page (file in ``folder``, width in pixels), and a picture of them below
    each other, 1000 pixels each.
    """
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no chromium: bash scripts/install_test_packages.sh")
    frames = "".join(
        f'<iframe style="border: 0; display: block" src="{name}" width="{width}" height="1000"></iframe>'
        for name, width in pages
    )
    (folder / "harness.html").write_text(_HARNESS % {"frames": frames}, encoding="utf-8")
    picture = folder / f"{'dark' if dark else 'light'}.png"
    profile = folder / f"profile-{picture.stem}"
    with _served(folder) as address:
        command = [
            browser,
            *_FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size=1300,{1000 * len(pages)}",
            f"--screenshot={picture}",
        ]
        command += ["--force-dark-mode"] if dark else []
        done = subprocess.run(
            [*command, "--dump-dom", f"{address}/harness.html"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found is not None and found[1], done.stderr[-2000:]
    return json.loads(unescape(found[1])), picture
