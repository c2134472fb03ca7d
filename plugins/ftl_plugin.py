"""What Airflow finds in this folder: the consortium's page, under `/consortium` and in the menu."""

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin
from ftl_airflow.page import app


class ConsortiumPlugin(AirflowPlugin):
    """The page. Operators and triggers are imported from `ftl_airflow` where they are used."""

    name = "ftl"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [{"app": app, "url_prefix": "/consortium", "name": "Consortium"}]
    external_views: ClassVar[list[dict[str, Any]]] = [
        {
            "name": "Consortium",
            "href": "/consortium/",
            "destination": "nav",
            "category": "browse",
            "url_route": "consortium",
        }
    ]
