"""Load, measured: benchmarks and scenarios against a running server."""
