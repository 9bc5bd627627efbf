"""What is known of users, in Redis, Valkey or memory."""
