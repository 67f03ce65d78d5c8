"""The only room with SQL: stored sessions, their layouts, and the databases behind them."""
