"""The paper's sentences, the rules that decide them, and what the records say."""
