"""Data in, `plotly.graph_objects.Figure` out: pure functions, and the only room that imports Plotly."""
