"""From events before a cut to a draft of a bundle: choose parameters, train, fit, write."""
