"""Shoal runs Python functions, commands and maps on Kubernetes."""

__version__ = "0.1.0"
