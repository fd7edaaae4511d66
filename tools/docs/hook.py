"""MkDocs' hook: adds the rendered pages to those of docs/ (https://www.mkdocs.org/dev-guide/plugins/)."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.docs.example_site import example_site
from tools.docs.pages import FROM_A_RUN, FROM_CODE


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every rendered page. Run from the repository's root."""
    pages = {uri: render() for uri, render in FROM_CODE.items()}
    with example_site() as site:
        pages |= {uri: render(site) for uri, render in FROM_A_RUN.items()}
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    return files
