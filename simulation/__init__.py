"""A fleet of models with known faults: what the cause model learns from. Needs torch; the product does not import it."""
