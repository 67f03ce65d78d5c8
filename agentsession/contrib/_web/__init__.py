"""What the web frameworks share: the routes' JSON, their problems, and what a model needs to have routes."""
