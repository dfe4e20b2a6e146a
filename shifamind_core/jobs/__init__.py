"""Work that outlives a page: submit, watch, cancel. The work itself is in `shifamind_core.commands`."""

from shifamind_core.jobs.state import BAD_ENDS, JobState
from shifamind_core.jobs.store import cancel, damaged_jobs, forget, keep_warm, list_jobs, read_job, submit

__all__ = [
    "BAD_ENDS",
    "JobState",
    "cancel",
    "damaged_jobs",
    "forget",
    "keep_warm",
    "list_jobs",
    "read_job",
    "submit",
]
