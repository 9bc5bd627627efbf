"""What is recorded of calls, and log lines that may happen at every call."""
