"""Runs, bundles and aliases in MLflow.

The store is found from the consortium's folder: a running server if one was recorded there, else its SQLite file.
"""

from ftl.registry.bundle import Bundle, Identifier, PartyPart, Scale, build_bundle, decode_bundle, encode_bundle
from ftl.registry.promotion import promote, roll_back
from ftl.registry.registration import register
from ftl.registry.store import server_command, server_environment, tracking_uri
from ftl.registry.tracking import Tracking, resume_run, start_run
from ftl.registry.versions import CHALLENGER, CHAMPION, ModelVersion, bundle_of, current_version, resolve

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Bundle",
    "Identifier",
    "ModelVersion",
    "PartyPart",
    "Scale",
    "Tracking",
    "build_bundle",
    "bundle_of",
    "current_version",
    "decode_bundle",
    "encode_bundle",
    "promote",
    "register",
    "resolve",
    "resume_run",
    "roll_back",
    "server_command",
    "server_environment",
    "start_run",
    "tracking_uri",
]
