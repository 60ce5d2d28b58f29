package store

// The tables of package audit: their records only grow.
var auditTables = []table{
	{name: "audit", guards: []guard{
		{name: "audit_append_only", before: "UPDATE", says: "audit records are append-only",
			when: `NEW.salt IS NOT NULL OR NEW.body IS NOT NULL OR changed(idx, at, actor, auth, kind, subject, digest, leaf)`},
		{name: "audit_keep", before: "DELETE", says: "audit records are append-only"},
	}},
	{name: "audit_hash", guards: []guard{
		{name: "audit_hash_append_only", before: "UPDATE", says: "audit hashes are append-only"},
		{name: "audit_hash_keep", before: "DELETE", says: "audit hashes are append-only"},
	}},
	{name: "audit_tree", guards: []guard{
		{name: "audit_tree_grows", before: "UPDATE", says: "the audit tree only grows",
			when: `NEW.size < OLD.size OR NEW.last_at <= OLD.last_at`},
		{name: "audit_tree_keep", before: "DELETE", says: "the audit tree only grows"},
	}},
	{name: "checkpoint", guards: []guard{
		{name: "checkpoint_append_only", before: "UPDATE", says: "checkpoints are append-only"},
		{name: "checkpoint_keep", before: "DELETE", says: "checkpoints are append-only"},
	}},
}
