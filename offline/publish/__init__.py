"""May a bundle be published, what changed since the last one, and the page that shows it."""
