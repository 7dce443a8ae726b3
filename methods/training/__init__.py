"""One trainer for every method that trains: schedules, checkpoints, several GPUs."""
