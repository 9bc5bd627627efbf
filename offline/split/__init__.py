"""Where events are cut into known ones and later ones, and the evaluation cases that this makes."""
