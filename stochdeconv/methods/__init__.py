"""The methods: each a loss, or several, on the one loop, and what its run leaves behind."""
