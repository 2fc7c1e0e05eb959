CREATE TABLE log (
    offset INTEGER PRIMARY KEY,
    thread BLOB NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX log_by_thread ON log (thread);
CREATE TABLE log_identity (
    id TEXT NOT NULL
);
INSERT INTO log_identity (id) VALUES (lower(hex(randomblob(16))));
