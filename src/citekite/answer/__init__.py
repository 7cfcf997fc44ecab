"""From retrieved passages to an answer with citations: prompt, model or extraction, citations checked."""
