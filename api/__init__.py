"""Every mode as a model of the OpenAI API."""
