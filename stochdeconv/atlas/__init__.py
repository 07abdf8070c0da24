"""What a file of statistics holds, as a page to look at."""
