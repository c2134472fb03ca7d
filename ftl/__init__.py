"""Federated transfer learning for credit: train and serve one model on data that stays with its owners."""

__version__ = "0.1.0"
