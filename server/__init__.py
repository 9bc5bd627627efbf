"""One online process: from a gRPC call to an answer inside its deadline."""
