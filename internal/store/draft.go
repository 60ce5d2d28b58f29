package store

import (
	"encoding/json"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Draft is an application whose mail address is not confirmed yet, or was: then Request
// is its request and the content is gone.
type Draft struct {
	Flow      string // of the pages on which it was typed
	Round     int    // how often it was sent from there
	TokenHash string // SHA-256 of the mailed link's token, hex
	Content   pki.Application
	Language  string
	MadeAt    time.Time
	MailAt    time.Time // when its mail leaves
	Until     time.Time
	Request   string
}

// PutDraft stores a draft, in the place of an earlier round of its flow. pki.ErrConflict
// where this round is stored already or the flow has its request.
func (tx *Tx) PutDraft(d Draft) error {
	content, err := json.Marshal(d.Content)
	if err != nil {
		return engine.Error("encode draft", err)
	}
	return tx.sql.One("put draft", `INSERT INTO draft (flow, round, token_hash, content, language, made_at, mail_at, until) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)
		ON CONFLICT (flow) DO UPDATE SET round = excluded.round, token_hash = excluded.token_hash, content = excluded.content,
			language = excluded.language, made_at = excluded.made_at, mail_at = excluded.mail_at, until = excluded.until
			WHERE draft.request = '' AND draft.round < excluded.round`,
		d.Flow, d.Round, d.TokenHash, string(content), d.Language, engine.Micros(tx.Now), engine.Micros(d.MailAt), engine.Micros(d.Until))
}

const draftColumns = `flow, round, token_hash, content, language, made_at, mail_at, until, request`

// Draft reads the draft of a flow; pki.ErrNotFound where there is none or its time is over.
func (tx *Tx) Draft(flow string) (Draft, error) {
	return tx.draft(tx.sql.QueryRow(`SELECT `+draftColumns+` FROM draft WHERE flow = $1`, flow))
}

// DraftByToken is Draft for who has the mailed link.
func (tx *Tx) DraftByToken(hash string) (Draft, error) {
	return tx.draft(tx.sql.QueryRow(`SELECT `+draftColumns+` FROM draft WHERE token_hash = $1`, hash))
}

func (tx *Tx) draft(r engine.Row) (Draft, error) {
	var d Draft
	var content string
	var made, mail, until int64
	err := r.Scan(&d.Flow, &d.Round, &d.TokenHash, &content, &d.Language, &made, &mail, &until, &d.Request)
	if err != nil {
		return d, engine.Error("read draft", err)
	}
	d.MadeAt, d.MailAt, d.Until = engine.FromMicros(made), engine.FromMicros(mail), engine.FromMicros(until)
	if tx.Now.After(d.Until) {
		return Draft{}, pki.ErrNotFound
	}
	return d, engine.Error("decode draft", json.Unmarshal([]byte(content), &d.Content))
}

// ConfirmDraft records the request that a draft became and forgets what was typed;
// pki.ErrConflict when it had become one.
func (tx *Tx) ConfirmDraft(flow, request string, until time.Time) error {
	return tx.sql.One("confirm draft", `UPDATE draft SET request = $1, content = '{}', until = $2 WHERE flow = $3 AND request = ''`, request, engine.Micros(until), flow)
}

// DropDrafts deletes drafts and links whose time is over, and the counts of mails of
// earlier days with the keys of their addresses.
func (tx *Tx) DropDrafts() error {
	_, err := tx.sql.Exec(`DELETE FROM draft WHERE until < $1`, engine.Micros(tx.Now))
	if err != nil {
		return engine.Error("drop drafts", err)
	}
	_, err = tx.sql.Exec(`DELETE FROM status_link WHERE until < $1`, engine.Micros(tx.Now))
	if err != nil {
		return engine.Error("drop status links", err)
	}
	today := mailDay(tx.Now)
	_, err = tx.sql.Exec(`DELETE FROM mail_count WHERE day < $1`, today)
	if err != nil {
		return engine.Error("drop mail counts", err)
	}
	_, err = tx.sql.Exec(`DELETE FROM mail_day WHERE day < $1`, today)
	return engine.Error("drop mail keys", err)
}
