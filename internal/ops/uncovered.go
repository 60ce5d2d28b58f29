package ops

// Gap names columns that VerifyRegister does not compare, and says why.
type Gap struct {
	Table   string
	Where   string // a condition on the rows that are meant; "": all
	Columns []string
	Reason  string
}

// OfTheTree are the tables that store.VerifyAudit compares, with the signer's signatures.
func OfTheTree() []string { return []string{"audit", "audit_hash", "audit_tree", "checkpoint"} }

// Uncovered lists every column that is not compared. A test holds that each column of
// the schema is here or is found when somebody changes it; another that docs/TRUST.md
// has this list.
func Uncovered() []Gap {
	return []Gap{
		{"day_sequence", "", []string{"day", "last"}, "gives numbers only; a number that is used already is refused by the key of its table"},
		{"draft", "", []string{"round", "content", "language", "made_at", "mail_at"},
			"an application that is not confirmed lives a day, and two persons look at what becomes of it; afterwards these columns say nothing"},
		{"draft", "request = ''", []string{"flow", "token_hash", "until", "request"}, "as above; the link of a draft that is a request opens it, and is compared"},
		{"flow", "", []string{"id", "kind", "owner", "subject", "step", "facts", "seen_at", "until"},
			"lives a day and holds what a browser typed; a forged one can ask for a hold as the holder of a letter may, of which every contact is told and which two officers lift"},
		{"goose_db_version", "", []string{"id", "version_id", "is_applied", "tstamp"}, "the schema itself is compared"},
		{"holder", "", []string{"kind", "code", "created_at"}, "names what requests name; nothing is decided by it"},
		{"mail_count", "", []string{"day", "tag", "sent"}, "counts mails of one day"},
		{"mail_day", "", []string{"day", "key"}, "lives a day; its key hides addresses in the counts"},
		{"outbox", "", []string{"id", "kind", "request", "address", "language", "args", "made_at", "next_at", "attempts", "failure", "sent_at"},
			"no record has the text of a mail; who writes here can send mails in our name, or keep one back"},
		{"request", "", []string{"changed_at"}, "nothing is decided by it"},
		{"revocation", "", []string{"published_at"}, "only the page of its holder shows it; the list itself is compared"},
		{"sealed_key", "request = ''", []string{"key_type", "made_at", "epoch", "blob"},
			"a key in the pool: only the signer can open it, and it refuses one that is not of the public key that is certified"},
		{"statement", "", []string{"nonce", "operator", "at"}, "keeps a signed statement from being used twice; one that is older than two minutes is refused anyway"},
		{"ticket", "", []string{"id", "request", "key_hash", "cookie_hash", "blob", "legacy", "file_sha256", "file_size", "uses", "until"},
			"a file that waits ten minutes, sealed under a key that only its holder's link has"},
	}
}
