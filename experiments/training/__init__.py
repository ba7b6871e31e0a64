"""One run, from its settings to its rows: data, batches, network, epochs, and the machine that it ran on."""
