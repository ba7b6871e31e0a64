"""The paper's sentences, the rules that decide them on records, and the verdicts."""
