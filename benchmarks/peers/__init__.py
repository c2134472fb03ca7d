"""Other projects' programs on the same rows in the same run, each in an environment of its own."""
