"""What speaks gRPC: calls, messages, statuses."""
