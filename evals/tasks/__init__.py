"""Tasks by name, and any data file as a task."""

from evals.tasks.registry import TaskOptions, describe_tasks, load_task, parse_options, task, task_names

__all__ = ["TaskOptions", "describe_tasks", "load_task", "parse_options", "task", "task_names"]
