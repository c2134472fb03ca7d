"""A site's own sign that it is registered at the federation server: a file with its process, for whoever started it."""

import os
from pathlib import Path

import msgspec
import psutil
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext

from ftl.federation.services import REGISTERED, Registered


class SiteSign(FLComponent):  # type: ignore[misc]
    """Writes the file once the server has taken the site in."""

    def __init__(self) -> None:
        super().__init__()
        self.register_event_handler(EventType.AFTER_CLIENT_REGISTER, self._write)

    def _write(self, _event: str, fl_ctx: FLContext) -> None:
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        sign = Registered(os.getpid(), psutil.Process().create_time())
        (Path(workspace.get_root_dir()) / REGISTERED).write_bytes(msgspec.json.encode(sign))
