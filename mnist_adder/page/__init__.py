"""Placeholder until the page's branch is merged."""
