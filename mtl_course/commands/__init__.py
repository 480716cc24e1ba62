"""What the command line prints, apart from what the package does."""
