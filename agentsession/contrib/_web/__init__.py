"""The core of the routers: the table of routes, the JSON of requests and responses, and the problems."""
