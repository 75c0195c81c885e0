"""MkDocs hooks: the executed notebook as a page, and a section of the navigation with the pages of results."""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOK = Path(__file__).parents[1] / "examples" / "draw_and_hear.ipynb"
PAGE = "draw-and-hear.md"
RESULTS = Path(__file__).parent / "results"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a section with the pages of results."""
    assert config.nav is not None
    config.nav.append({"Results": [f"results/{page.name}" for page in sorted(RESULTS.glob("*.md"))]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to the files of the site."""
    files.append(File.generated(config, PAGE, content=markdown(json.loads(NOTEBOOK.read_bytes()))))
    return files


def markdown(notebook: dict[str, Any]) -> str:
    """Return a notebook (nbformat 4) as Markdown with its sounds and pictures in place."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += map(_output, cell.get("outputs", []))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    if "text" in output:
        return f"```text\n{''.join(output['text'])}```"
    data = output["data"]
    if "image/png" in data:
        return f"![plot](data:image/png;base64,{''.join(data['image/png']).strip()})"
    return "".join(line.strip() for line in data.get("text/html", data["text/plain"]))
