"""The policy `bitwise`: the same logits, bit for bit, on every machine. The argument is in docs/precision.md."""
