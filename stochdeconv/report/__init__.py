"""The page a comparison ends in: one HTML file that opens offline."""
