"""The API reference and the pages of this folder as HTML: python docs/build.py [FOLDER]; `make docs`.

pdoc renders both: each page is passed as a module that has only a docstring.
"""

import re
import shutil
import sys
import types
from pathlib import Path

import namsg_mx  # isort: skip  (before pdoc imports MXNet)
import pdoc

DOCS = Path(__file__).resolve().parent
MODULES = ("namsg_mx", "namsg_mx.optimizers.base", "namsg_mx.distributed", "namsg_mx.reference", "namsg_mx.kernels",
           "namsg_mx.theory.gain", "namsg_mx.theory.regret")
PAGES = ("guide", "reproduction", "architecture", "theory", "validity", "scaling")
REPOSITORY = DOCS.parent


def page(name):
    """A module whose docstring is the page; its links to the repository's files lead there as files."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((\w+)\.md", r"](\1.html", text)                      # another page
    text = re.sub(r"\]\(\.\./", f"]({REPOSITORY.as_uri()}/", text)           # a file of the repository
    return pdoc.doc.Module(types.ModuleType(name, text))


def without_dead_links(text):
    """pdoc links to inherited attributes, too, which it does not show."""
    shown = set(re.findall(r'id="([^"]+)"', text))
    return re.sub(r'<a href="#([^"]+)">(.*?)</a>', lambda link: link[0] if link[1] in shown else link[2], text)


def build(folder):
    pdoc.render.configure(docformat="numpy", math=True, show_source=False,
                          footer_text=f"namsg-mx {namsg_mx.__version__}")
    modules = {name: pdoc.doc.Module.from_name(name) for name in MODULES}
    modules.update({name: page(name) for name in PAGES})
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in modules.items():
        path = folder / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(without_dead_links(pdoc.render.html_module(module, modules)), encoding="utf-8")
    for beside in (*DOCS.glob("*.svg"), *DOCS.glob("*.yaml")):
        shutil.copy(beside, folder)
    (folder / "index.html").write_text(pdoc.render.html_index(modules), encoding="utf-8")
    (folder / "search.js").write_text(pdoc.render.search_index(modules), encoding="utf-8")
    print(folder / "index.html")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "build" / "docs")
