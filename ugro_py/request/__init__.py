"""What a launch asks for: options as people write them, checked, with models and data sets by name."""
