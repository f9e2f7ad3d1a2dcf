"""What every operator process shares: launch, loop, heartbeat, retry, logging. No domain logic."""
