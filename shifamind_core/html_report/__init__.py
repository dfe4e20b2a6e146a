"""The report as one page that opens anywhere, and the story that it and the overview tell."""
