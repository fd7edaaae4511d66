"""Fixtures for the queue and the inbox, shared by several folders of tests."""

from queue_fixtures import check, clock, folder, inbox, jobs, settle

__all__ = ["check", "clock", "folder", "inbox", "jobs", "settle"]
