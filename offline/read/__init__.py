"""From files of events and items to numbers, and what was wrong in them."""
