"""The page on differences."""
