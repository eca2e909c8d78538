"""The Kubernetes operator of Shoal."""
