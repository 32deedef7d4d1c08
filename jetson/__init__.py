"""Facts about boards, and what a board says of itself."""
