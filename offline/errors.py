"""What goes wrong with input; imports nothing, so that any process may catch it."""


class InputError(Exception):
    """Something about the input; the message names file, column and row and says what to do."""
