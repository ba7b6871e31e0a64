"""What the command line does: above all the other rooms, and known to none."""
