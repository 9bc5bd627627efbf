"""Ways of ordering candidates: features, scorers, rules; and, offline only, how the model is trained."""
