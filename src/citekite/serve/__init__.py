"""The server: HTTP API, web page, OpenAI-compatible endpoint and MCP, all over the same knowledge bases."""
