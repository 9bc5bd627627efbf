"""How much this process takes on: admission, limit, lag, breakers. Arithmetic; calls nobody."""
