package store

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

// Message is a mail that leaves after the change it tells of was committed.
type Message struct {
	ID       string
	Kind     string // catalogue key stem: "mail." + Kind
	Request  string
	Address  string
	Language string
	Args     map[string]string // public facts of the text; never a reference ID
	Due      time.Time         // not before; zero: now
	Attempts int
}

// AddMessage puts a message into the outbox.
func (tx *Tx) AddMessage(m Message) error {
	args, err := json.Marshal(m.Args)
	if err != nil {
		return engine.Error("encode message", err)
	}
	due := tx.Now
	if m.Due.After(due) {
		due = m.Due
	}
	return tx.sql.Add("add message", `INSERT INTO outbox (id, kind, request, address, language, args, made_at, next_at) VALUES ($1,$2,$3,$4,$5,$6,$7,$8)
		ON CONFLICT DO NOTHING`, m.ID, m.Kind, m.Request, m.Address, m.Language, string(args), engine.Micros(tx.Now), engine.Micros(due))
}

// TellContacts puts the message that something happened to a request, or to its
// certificate, into the outbox: one for each address that the request names. An API
// client's request names none. What about is said to be happens once: it makes the IDs.
func (tx *Tx) TellContacts(r pki.Request, kind, about string, more map[string]string) error {
	args := map[string]string{"HolderCode": r.Application.Holder.Code, "Terminal": r.Application.TerminalName, "At": tx.Now.Format(time.RFC3339)}
	maps.Copy(args, more)
	m := Message{ID: kind + "/" + about, Kind: kind, Request: r.ID, Address: r.Application.Email, Language: r.Language, Args: args}
	if m.Address != "" {
		err := tx.AddMessage(m)
		if err != nil {
			return err
		}
	}
	if r.Application.MaintenanceEmail == "" || r.Application.MaintenanceEmail == m.Address {
		return nil
	}
	m.ID, m.Address = m.ID+"/maintenance", r.Application.MaintenanceEmail
	return tx.AddMessage(m)
}

// ClaimMessages takes due messages and moves their next attempt away by hold, so
// that no other node sends them meanwhile.
func (tx *Tx) ClaimMessages(limit int, hold time.Duration) ([]Message, error) {
	rows, err := tx.sql.Query(`UPDATE outbox SET next_at = $1, attempts = attempts + 1 WHERE id IN
		(SELECT id FROM outbox WHERE sent_at = 0 AND next_at <= $2 ORDER BY next_at LIMIT $3) AND sent_at = 0 AND next_at <= $4
		RETURNING id, kind, request, address, language, args, attempts`,
		engine.Micros(tx.Now.Add(hold)), engine.Micros(tx.Now), limit, engine.Micros(tx.Now))
	if err != nil {
		return nil, engine.Error("claim messages", err)
	}
	return engine.Collect(rows, func(row engine.Scanner) (Message, error) {
		var m Message
		var args string
		err := row.Scan(&m.ID, &m.Kind, &m.Request, &m.Address, &m.Language, &args, &m.Attempts)
		if err != nil {
			return m, err
		}
		return m, json.Unmarshal([]byte(args), &m.Args)
	})
}

// FinishMessage records that a message left. What it said is forgotten: links in it are
// the reader's alone.
func (tx *Tx) FinishMessage(id string) error {
	_, err := tx.sql.Exec(`UPDATE outbox SET sent_at = $1, failure = '', args = '{}' WHERE id = $2`, engine.Micros(tx.Now), id)
	return engine.Error("finish message", err)
}

// DelayMessage records a failure and the next attempt.
func (tx *Tx) DelayMessage(id, failure string, next time.Time) error {
	_, err := tx.sql.Exec(`UPDATE outbox SET failure = $1, next_at = $2 WHERE id = $3 AND sent_at = 0`, failure, engine.Micros(next), id)
	return engine.Error("delay message", err)
}

// UnsentMessages counts the messages that have not left: those whose next attempt comes
// before a time, and the others.
func (tx *Tx) UnsentMessages(before time.Time) (int, int, error) {
	var due, later int
	err := tx.sql.QueryRow(`SELECT COUNT(CASE WHEN next_at < $1 THEN 1 END), COUNT(CASE WHEN next_at >= $2 THEN 1 END) FROM outbox WHERE sent_at = 0`,
		engine.Micros(before), engine.Micros(before)).Scan(&due, &later)
	return due, later, engine.Error("count messages", err)
}

// DelayedMessages counts the messages whose last attempt failed and whose next comes
// before a time.
func (tx *Tx) DelayedMessages(before time.Time) (int, error) {
	var n int
	err := tx.sql.QueryRow(`SELECT COUNT(*) FROM outbox WHERE sent_at = 0 AND next_at < $1 AND failure <> ''`, engine.Micros(before)).Scan(&n)
	return n, engine.Error("count delayed messages", err)
}

func mailDay(now time.Time) string { return pki.Day(now).Format(time.DateOnly) }

// CountMail counts one more mail to an address today and says how many that makes, and
// a name of the address for today that tells nobody which it is.
func (tx *Tx) CountMail(address string) (int, string, error) {
	day := mailDay(tx.Now)
	var key []byte
	err := tx.sql.QueryRow(`SELECT key FROM mail_day WHERE day = $1`, day).Scan(&key)
	if errors.Is(err, pki.ErrNotFound) {
		key = make([]byte, sha256.Size)
		_, _ = rand.Read(key) // never fails; see crypto/rand
		_, err = tx.sql.Exec(`INSERT INTO mail_day (day, key) VALUES ($1, $2)`, day, key)
	}
	if err != nil {
		return 0, "", engine.Error("read mail key", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(strings.ToLower(address)))
	tag := hex.EncodeToString(mac.Sum(nil))
	var sent int
	err = tx.sql.QueryRow(`INSERT INTO mail_count (day, tag, sent) VALUES ($1, $2, 1)
		ON CONFLICT (day, tag) DO UPDATE SET sent = mail_count.sent + 1 RETURNING sent`, day, tag).Scan(&sent)
	return sent, tag, engine.Error("count mail", err)
}

// Digest puts one more line into a message that waits, and makes it where there is none.
func (tx *Tx) Digest(m Message, line string) error {
	var args string
	err := tx.sql.QueryRow(`SELECT args FROM outbox WHERE id = $1 AND sent_at = 0`, m.ID).Scan(&args)
	if errors.Is(err, pki.ErrNotFound) {
		m.Args["Lines"] = line
		return tx.AddMessage(m)
	}
	if err != nil {
		return engine.Error("read digest", err)
	}
	err = json.Unmarshal([]byte(args), &m.Args)
	if err != nil {
		return engine.Error("decode digest", err)
	}
	m.Args["Lines"] += "\n" + line
	text, err := json.Marshal(m.Args)
	if err != nil {
		return engine.Error("encode digest", err)
	}
	return tx.sql.One("add to digest", `UPDATE outbox SET args = $1 WHERE id = $2 AND sent_at = 0`, string(text), m.ID)
}
