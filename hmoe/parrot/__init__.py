"""PARROT (arXiv 2506.01138): two frozen speech encoders, fused by Hadamard product and optimal transport."""
