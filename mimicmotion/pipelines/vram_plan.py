"""How much memory of a card a run takes, from its shapes alone, and what it does to take less."""
PIECE = 2**24
SMALLEST_PIECE = 2**20
