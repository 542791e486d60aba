"""Looking at queues, tasks, servers and schedulers, and intervening."""
