"""Situations from public bug reports, rebuilt with made-up notes and scores and run through the real commands.

One test a situation, named after its number in the list that the project keeps; what holds a situation's pieces in more
detail stands in the rooms' own tests.
"""
