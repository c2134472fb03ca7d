"""The consortium's page: who takes part, what has landed, passed and been refused, and where to look further.

Airflow serves a plugin's application without asking who calls. Here every route asks for Airflow's own token first,
from the log-in cookie or the `Authorization` header, and for the right to see assets.
"""

from html import escape
from typing import TYPE_CHECKING

from airflow.api_fastapi.core_api.security import requires_access_asset
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse

from ftl.consortium import Folder
from ftl_airflow.consortium import folder

if TYPE_CHECKING:
    from ftl.pipeline.overview import TableOverview

HEADERS = ("Party", "Role", "Table", "Watermark", "Landed", "Validated", "Quarantined", "Data Docs")
STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { margin: 2rem; line-height: 1.5; }
table { border-collapse: collapse; }
caption { text-align: left; margin-bottom: .5rem; }
th, td { padding: .4rem .8rem; border-bottom: 1px solid; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""

app = FastAPI(
    title="Consortium",
    dependencies=[Depends(requires_access_asset("GET"))],
    # The schema's pages would be served outside the dependency above.
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
)


@app.get("/", response_class=HTMLResponse)
def show() -> str:
    """The page."""
    from ftl.pipeline.overview import overview
    from ftl.pipeline.services import addresses

    here = folder()
    rows = "".join(_row(entry) for entry in overview(here))
    links = "".join(f'<li><a href="{escape(url)}">{escape(name)}</a></li>' for name, url in addresses(here).items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Consortium {escape(here.consortium.name)}</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>
<body><main><h1>Consortium {escape(here.consortium.name)}</h1>{_notice(here)}
<table><caption>Tables of the parties</caption>
<thead><tr>{"".join(f'<th scope="col">{name}</th>' for name in HEADERS)}</tr></thead><tbody>{rows}</tbody></table>
<h2>Services</h2><ul>{links}</ul></main></body></html>"""


@app.get("/docs/{party}/{path:path}")
def data_docs(party: str, path: str) -> FileResponse:
    """A file of a party's Data Docs, where its node is on this machine."""
    here = folder()
    if party not in here.consortium.parties:
        raise HTTPException(404, f"There is no party {party!r}.")
    root = here.node(party).docs.resolve()
    file = (root / path).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        raise HTTPException(404, "There is no such page; Data Docs are written by the first quality check.")
    return FileResponse(file)


def _row(entry: "TableOverview") -> str:
    words = (entry.title, entry.role, entry.table, entry.watermark or "none")
    numbers = (entry.landed, entry.validated, entry.quarantined)
    docs = f'<a href="docs/{entry.party}/index.html">Data Docs<span> of {escape(entry.title)}</span></a>'
    cells = "".join(f"<td>{escape(word)}</td>" for word in words)
    cells += "".join(f'<td class="number">{number:,}</td>' for number in numbers)
    return f"<tr>{cells}<td>{docs}</td></tr>"


def _notice(here: Folder) -> str:
    said = here.consortium.simulation
    return f"<p><strong>{escape(said.notice)}</strong></p>" if said else ""
