"""Which of several CPNS Server processes on one database uses which sessions (SEC-23)."""
