"""How good a draft is on the test window, measured through the code that serves."""
