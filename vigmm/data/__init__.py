"""Where rows come from: sources, one-pass moments, minibatches, device rows and synthetic data."""
