"""The documents for agents, by the Model Context Protocol: over stdio (`citekite mcp`) and over HTTP (`/mcp`)."""
