"""Many runs at a time, or one run on many processes; and how far they are."""
