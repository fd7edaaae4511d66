"""The queue's and the inbox's fixtures, which three rooms share."""

from queue_fixtures import check, clock, folder, inbox, jobs, settle

__all__ = ["check", "clock", "folder", "inbox", "jobs", "settle"]
