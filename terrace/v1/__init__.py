"""Generated from protos/terrace/v1 by `make protos`."""
