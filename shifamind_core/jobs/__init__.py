"""Work that outlives a page: submit, watch, cancel. The work itself is in `shifamind_core.commands`."""

from shifamind_core.jobs.store import JobState, cancel, list_jobs, read_job, submit

__all__ = ["JobState", "cancel", "list_jobs", "read_job", "submit"]
