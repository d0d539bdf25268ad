"""Why a job failed, waits, or does what it does: facts, causes, evidence."""
