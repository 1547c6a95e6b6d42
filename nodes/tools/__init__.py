"""Tools: what a plan may call besides a model, one file each; a call costs time and no tokens."""

from nodes.tools.base import Tool, ToolError
from nodes.tools.registry import AnyTool, get_tool, tool, tool_name, tool_names

__all__ = [
    "AnyTool",
    "Tool",
    "ToolError",
    "get_tool",
    "tool",
    "tool_name",
    "tool_names",
]
