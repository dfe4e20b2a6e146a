"""Figures on a page: full width, in the page's theme, with a description for those who do not see them."""
