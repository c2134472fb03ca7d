"""Watches what a model was trained on against what arrives now; early warning before the labels come."""

from ftl.monitoring.stability import ColumnDrift, Drift, drift, stability_index

__all__ = ["ColumnDrift", "Drift", "drift", "stability_index"]
