"""Ways of finding candidates: one file each, offline and online halves as neighbours."""
