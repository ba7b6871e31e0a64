"""One run, from its settings to its records: data, batches, network, epochs, and the machine that it ran on."""
