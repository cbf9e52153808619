BEGIN TRANSACTION;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    node TEXT NOT NULL,
    kind TEXT NOT NULL,
    wave TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    body TEXT NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    rejected TEXT NOT NULL DEFAULT ''
);
INSERT INTO "events" VALUES(1,'e1','n1','resumed','w1',1800000000000000000,'{"v":1,"id":"e1","node":"n1","at_ns":1800000000000000000,"kind":"resumed","title":"Rolling Reboot","message":"Host ready for production","tags":"slurm","phase":"IN_SERVICE","recipe":"reboot","cycle":"c1","wave":"w1","check":"","duration_s":null,"measures":{},"boot_id":"boot-b"}',1,'');
INSERT INTO "events" VALUES(2,'e2','n1','resumed','w1',7,'{"v":1,"id":"e2","node":"n1","at_ns":7,"kind":"resumed","title":"Rolling Reboot","message":"Host ready for production","tags":"slurm","phase":"IN_SERVICE","recipe":"reboot","cycle":"c1","wave":"w1","check":"","duration_s":null,"measures":{},"boot_id":"boot-b"}',0,'field type conflict');
INSERT INTO "events" VALUES(3,'e3','n1','resumed','w1',9,'{"v":1,"id":"e3","node":"n1","at_ns":9,"kind":"resumed","title":"Rolling Reboot","message":"Host ready for production","tags":"slurm","phase":"IN_SERVICE","recipe":"reboot","cycle":"c1","wave":"w1","check":"","duration_s":null,"measures":{},"boot_id":"boot-b"}',0,'');
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('epoch',2);
INSERT INTO "meta" VALUES('schema',1);
CREATE TABLE permits (node TEXT PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO "permits" VALUES('n1','{"v":1,"node":"n1","cycle":"c1","purpose":"cycle","wave":"","granted_at":1800000000.0,"report_at":1.0}');
CREATE TABLE waves (id TEXT PRIMARY KEY, ended INTEGER NOT NULL, started_at REAL NOT NULL, body TEXT NOT NULL);
INSERT INTO "waves" VALUES('w1',0,1800000000.0,'{"v":1,"id":"w1","spec":{"nodes":"n1","recipe":"reboot","image":"","max_unavailable":1,"canary":0,"soak_s":0.0,"max_failures":0,"node_deadline_s":3600.0,"note":""},"state":"running","why":"","pause":null,"pauses":0,"pauses_told":0,"forgiven":0,"canary_waived":false,"soaking_since":0.0,"stuck_since":0.0,"started_at":1800000000.0,"announced":false,"ended_at":0.0,"members":[{"node":"n1","turn":"waiting","since":1800000000.0,"why":"","confirmed":false,"boot_time":0,"slurmd_start_time":0,"away_since":0.0,"unready_since":0.0,"back_since":0.0,"lost":false,"attempt":1,"spent":[],"left_out":false}]}');
INSERT INTO "waves" VALUES('w0',1,1799999901.0,'{"v":1,"id":"w0","spec":{"nodes":"n2","recipe":"reboot","image":"","max_unavailable":1,"canary":0,"soak_s":0.0,"max_failures":0,"node_deadline_s":3600.0,"note":""},"state":"done","why":"","pause":null,"pauses":0,"pauses_told":0,"forgiven":0,"canary_waived":false,"soaking_since":0.0,"stuck_since":0.0,"started_at":1799999901.0,"announced":false,"ended_at":0.0,"members":[{"node":"n2","turn":"waiting","since":1800000000.0,"why":"","confirmed":false,"boot_time":0,"slurmd_start_time":0,"away_since":0.0,"unready_since":0.0,"back_since":0.0,"lost":false,"attempt":1,"spent":[],"left_out":false}]}');
CREATE INDEX events_outbox ON events (seq) WHERE delivered = 0 AND rejected = '';
CREATE INDEX events_node ON events (node, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',3);
COMMIT;
