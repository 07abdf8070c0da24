"""Figures that say how realistic and how varied images are; one file per family, plain NumPy."""

# What the rows of the photographs are called beside the contestants': all of them, and one half held against the other.
REAL, NOISE_FLOOR = "real", "real_vs_real"
#: Figures of images that were drawn place by place, by their run.json; undefined for all others.
COPYING_KEYS = ("largest_share", "largest_piece")
