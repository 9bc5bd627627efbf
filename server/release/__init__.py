"""Releases: bundle store, release document, supervisor and workers."""
