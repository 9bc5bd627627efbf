"""The deep pipeline in batch: a list for every user, written to the user store before it is needed."""
