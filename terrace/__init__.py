"""What a calling service sees of Terrace."""
