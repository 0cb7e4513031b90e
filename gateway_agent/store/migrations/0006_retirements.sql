-- Retired names whose rights the Server has not yet acknowledged to have ended (SEC-31)

CREATE TABLE pending_retirement (
    pne_id TEXT PRIMARY KEY
) WITHOUT ROWID;
