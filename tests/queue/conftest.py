"""Fixtures of the queue and the inbox."""

from queue_fixtures import check, clock, folder, inbox, jobs, settle

__all__ = ["check", "clock", "folder", "inbox", "jobs", "settle"]
