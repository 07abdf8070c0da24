"""Looking at a page in tests: its elements, and what a browser makes of it."""

import html.parser
import json
import re
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# Elements without an end.
_VOID = {"meta", "img", "br", "input", "hr", "link"}
_PROBE = """<script>addEventListener("load", () => {
  const pictures = [...document.images];
  parent.postMessage({
    width: document.documentElement.clientWidth,
    scroll: document.documentElement.scrollWidth,
    broken: pictures.filter(p => !p.complete || p.naturalWidth === 0).length,
    pictures: pictures.length,
    flat: [...document.querySelectorAll("svg.plot")].filter(s => s.getBoundingClientRect().height < 40).length,
    wide: [...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll, svg, details")
           && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className || e.tagName),
  }, "*"); });</script>"""


class Elements(html.parser.HTMLParser):
    """Tags and attributes in their order; `unclosed` names what was not closed where it should have been."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.unclosed, self._open = [], [], []
        self.feed(text)
        self.close()
        self.unclosed += self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.unclosed.append(tag)

    def of(self, tag):
        """Attributes of all elements of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]


def assert_complete_in_itself(page):
    """A page that loads nothing from anywhere, runs nothing, is closed where it was opened and has each id once."""
    elements = Elements(page)
    for tag, attributes in elements.elements:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", page)
    assert elements.unclosed == []
    ids = [attributes["id"] for _, attributes in elements.elements if "id" in attributes]
    assert ids
    assert len(set(ids)) == len(ids)


def seen_in_browser(page, folder, *, width):
    """What a browser says of a page in a frame of a width, its details open."""
    (folder / "page.html").write_text(
        page.replace("</body>", _PROBE + "</body>").replace("<details>", "<details open>")
    )
    # A frame of the width wanted: a headless window cannot be made as narrow as a phone.
    (folder / "frame.html").write_text(
        f'<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe><pre id="result"></pre>'
        '<script>addEventListener("message", e => { document.getElementById("result").textContent = JSON.stringify(e.data); });</script>'
    )
    quiet = "disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    command = [CHROMIUM, "--headless", "--no-sandbox", *(f"--{flag}" for flag in quiet.split())]
    command += [f"--user-data-dir={folder / 'profile'}", "--window-size=1500,1000", "--virtual-time-budget=10000"]
    dom = subprocess.run(
        [*command, "--dump-dom", (folder / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    seen = json.loads(re.search(r'<pre id="result">(.*?)</pre>', dom).group(1).replace("&amp;", "&"))
    assert seen["width"] in (width, width - 15)  # with a scroll bar
    assert seen["scroll"] <= seen["width"], seen["wide"]
    assert seen["wide"] == []
    return seen
