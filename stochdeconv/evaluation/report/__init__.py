"""The pages to look at, each one HTML file that opens offline: the report of a comparison, the atlas of a class."""
